//! Two targets on one nginx, which reads both pairs whenever it tests or loads its configuration.

use super::scene::{Scene, confirmed};
use crate::agent::support::*;
use certctl::deploy::{Policy, TargetConfig};
use serde_json::json;
use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn targets_of_one_nginx_are_deployed_at_once_and_none_sees_the_other_half_done() {
    let mut scene = Scene::dark();
    let address = SocketAddr::new(scene.nginx.address.ip(), scene.nginx.address.port() + 1);
    let other = |name: &str| -> PathBuf { scene.nginx.path("other").join(name) };
    fs::create_dir(other("")).unwrap();
    let certificates = ["cert-1", "cert-2"];
    let old = scene.host.version("cert-2", 1);
    let key = scene.host.pair("cert-2", &old).key().to_pkcs8_pem();
    fs::write(other("cert.pem"), &old).unwrap();
    fs::write(other("key.pem"), key.as_bytes()).unwrap();
    let config = scene.nginx.path("nginx.conf");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.trim_end().strip_suffix('}').unwrap();
    let server = format!(
        "  server {{\n    listen {address} ssl;\n    ssl_certificate {};\n    \
         ssl_certificate_key {};\n  }}\n}}\n",
        other("cert.pem").display(),
        other("key.pem").display()
    );
    fs::write(&config, format!("{text}{server}")).unwrap();
    let targets = [
        scene.nginx.target(json!({})),
        scene.nginx.target(json!({
            "cert_path": other("cert.pem"),
            "key_path": other("key.pem"),
            "endpoints": [address.to_string()],
        })),
    ];
    scene.store(&scene.old);
    scene.nginx.start().await;

    let policy = Policy {
        configs: Some(vec![config]),
        ..Policy::default()
    };
    let files = scene.host.files.clone();
    let (deployer, _, tasks) = scene.host.deployer_under(Arc::new(policy), files);
    let stop = CancellationToken::new();
    for serial in 2..8 {
        let [first, second] = [0, 1].map(|n| {
            let config = TargetConfig::parse("NGINX", &targets[n]).unwrap();
            let fullchain = scene.host.version(certificates[n], serial);
            let pair = scene.host.pair(certificates[n], &fullchain);
            let target = id(&format!("tgt-{n}"));
            let (deployer, stop) = (&deployer, &stop);
            async move { deployer.deploy(&target, &config, &pair, stop).await }
        });
        let (first, second) = tokio::join!(first, second);
        assert!(confirmed(&first) && confirmed(&second));
    }
    tasks.shutdown(Duration::from_secs(9)).await;
}
