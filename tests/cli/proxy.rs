//! A server behind a proxy that ends TLS under a certificate of another CA.

use super::{
    home::Home,
    process::{Process, run},
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use certctl::net::{
    Dialer, Guard, HttpClient, HttpOptions, Identity, Limits, Listener, Resolver, ServerIdentity,
    Transport, Trust,
};
use certctl::sys::Tasks;
use http::Uri;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

/// A proxy before a home's server, until `tasks` end; its CA, PEM, and its address.
async fn proxy(home: &Home, tasks: &Tasks) -> (String, SocketAddr) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([home.ip.to_string()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let identity = Identity::from_der(vec![leaf.der().to_vec()], key.serialize_der()).unwrap();
    let identity = ServerIdentity::new(identity);
    let listener = Listener::tls(SocketAddr::new(home.ip, 0), &identity)
        .await
        .unwrap();
    let address = listener.address().unwrap();

    let trust = Trust::from_pem(&fs::read(home.path("tls/system-ca.pem")).unwrap()).unwrap();
    let options = HttpOptions {
        timeout: Duration::from_secs(90),
        server_name: Some("localhost".into()),
        ..HttpOptions::default()
    };
    let dialer = Dialer::new(Resolver::system(), Guard::Any);
    let client = Arc::new(HttpClient::https(dialer, &trust, options).unwrap());
    let server = home.control().to_string();
    let router = Router::new().fallback(move |request: Request| {
        let (client, server) = (client.clone(), server.clone());
        async move {
            let (mut head, body) = request.into_parts();
            let path = head.uri.path_and_query().unwrap().clone();
            head.uri = Uri::builder()
                .scheme("https")
                .authority(server)
                .path_and_query(path)
                .build()
                .unwrap();
            head.headers.remove("host");
            head.extensions.clear();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            match client.call(http::Request::from_parts(head, body)).await {
                Ok(response) => response.map(Body::from),
                Err(e) => Response::builder()
                    .status(502)
                    .body(Body::from(e.to_string()))
                    .unwrap(),
            }
        }
    });
    let (runner, stop) = (tasks.clone(), tasks.token());
    tasks.spawn("proxy", async move {
        listener
            .serve(router, Limits::default(), &runner, &stop)
            .await;
    });
    (ca, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_through_a_proxy_that_ends_tls() {
    let home = Home::new();
    let _server = home.server();
    let tasks = Tasks::new();
    let (ca, address) = proxy(&home, &tasks).await;
    let bundle = home.beside("proxy-ca.pem");
    fs::write(&bundle, ca).unwrap();
    let token = home.token().await;
    let both = run(home
        .enrol(&token, &[])
        .env("CERTCTL_SERVER_CA_BUNDLE_PATH", &bundle));
    let fault = both.bad(78);
    assert!(fault.contains("--ca-pin"), "{fault}");
    let bundle = format!("--ca-bundle {}", bundle.display());
    let line = format!(
        "enrol --server https://{address} --token {} --name web-1 {bundle}",
        token["token"].as_str().unwrap()
    );
    let said = run(&mut home.host(&line)).good_with_log();
    // It says how to go on.
    assert!(said.trim_end().ends_with(&bundle), "{said}");

    let agent = Process::start(&mut home.host(&bundle));
    agent.line("agent opened");
    home.certificate("www", &super::standalone::agent_of(&said))
        .await;
    home.api().deployed("www").await;
    let shown = home.run("certs show www").good();
    assert!(shown.contains("confirmed"), "{shown}");
    tasks.shutdown(Duration::from_secs(10)).await;
}
