//! A host's nginx: it runs through all that happens to the agent beside it.

use crate::cli::process::{AMPLE, Process};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

const BINARY: &str = "/usr/sbin/nginx";

pub struct Nginx {
    dir: PathBuf,
    process: Option<Process>,
}

impl Nginx {
    /// Starts one in a new directory that serves certificates made by hand, each at an address.
    pub fn start(dir: PathBuf, sites: &[(String, SocketAddr)]) -> Self {
        fs::create_dir(&dir).unwrap();
        let shown = dir.display();
        let root = fs::metadata(&dir).unwrap().uid() == 0;
        let user = if root { "user root;\n" } else { "" };
        let mut text = format!(
            "{user}daemon off;\nworker_processes 2;\npid {shown}/pid;\nerror_log {shown}/error.log;\n\
             events {{}}\nhttp {{\n  access_log off;\n"
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            text.push_str(&format!("  {kind}_temp_path {shown}/{kind};\n"));
        }
        let nginx = Self { dir, process: None };
        for (site, address) in sites {
            let (cert, key) = (nginx.cert(site), nginx.key(site));
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(&cert, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            text.push_str(&format!(
                "  server {{\n    listen {address} ssl;\n    ssl_certificate {};\n    \
                 ssl_certificate_key {};\n  }}\n",
                cert.display(),
                key.display()
            ));
        }
        text.push_str("}\n");
        fs::write(nginx.config(), text).unwrap();
        nginx.run()
    }

    fn run(mut self) -> Self {
        let mut command = Command::new(BINARY);
        self.process = Some(Process::start(command.arg("-c").arg(self.config())));
        let deadline = Instant::now() + AMPLE;
        // Written once the sockets are open.
        while fs::read_to_string(self.dir.join("pid")).is_ok_and(|pid| pid.trim().is_empty())
            || !self.dir.join("pid").exists()
        {
            assert!(Instant::now() < deadline, "nginx does not start");
            std::thread::yield_now();
        }
        self
    }

    fn config(&self) -> PathBuf {
        self.dir.join("nginx.conf")
    }

    fn cert(&self, site: &str) -> PathBuf {
        self.dir.join(format!("{site}.pem"))
    }

    fn key(&self, site: &str) -> PathBuf {
        self.dir.join(format!("{site}.key"))
    }

    /// The configuration of a target of type `NGINX`.
    pub fn target(&self, site: &str, address: SocketAddr) -> Value {
        let reload = if address.port() % 2 == 0 {
            "signal"
        } else {
            "command"
        };
        json!({
            "cert_path": self.cert(site), "key_path": self.key(site), "binary": BINARY,
            "config_path": self.config(), "pid_path": self.dir.join("pid"),
            "endpoints": [address.to_string()], "reload": reload, "verify_timeout": "30s",
        })
    }

    /// The directory of what it is configured for.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // The master ends its workers; killed, it would leave them.
            process.signal(Signal::SIGTERM);
            process.end();
        }
    }
}
