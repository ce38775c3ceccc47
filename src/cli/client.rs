//! A REST client for the commands.

use super::{CliError, Global};
use crate::{
    config::{self, Environment, SOCKET_NAME},
    net::{CallError, Dialer, Guard, HttpClient, HttpOptions, Resolver, Transport, Trust},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The socket of an installed server, tried last.
const SYSTEM_SOCKET: &str = "/run/certctl/certctl.sock";
/// A call on all there is may take this long; the server gives it up before.
const LONG: Duration = Duration::from_secs(100);
/// The largest answer to such a call, in bytes.
const MAX_LONG_BODY: usize = 256 << 20;
/// The largest CA bundle read, in bytes.
const MAX_BUNDLE: usize = 4 << 20;

/// Calls a server's API.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    base: String,
    /// Marked sensitive.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// By the unix socket of a server on this machine.
    pub fn on_socket(socket: PathBuf) -> Self {
        Self {
            transport: Arc::new(HttpClient::unix(socket, HttpOptions::default())),
            base: "http://localhost".into(),
            authorization: None,
        }
    }

    /// As flags and environment say.
    pub fn new(global: &Global, env: &Environment) -> Result<Self, CliError> {
        Self::with(global, env, HttpOptions::default())
    }

    /// As [`new`](Self::new), for calls on all there is: they take longer and answer more.
    pub fn patient(global: &Global, env: &Environment) -> Result<Self, CliError> {
        let options = HttpOptions {
            timeout: LONG,
            max_body: MAX_LONG_BODY,
            ..HttpOptions::default()
        };
        Self::with(global, env, options)
    }

    fn with(global: &Global, env: &Environment, options: HttpOptions) -> Result<Self, CliError> {
        let Some(server) = server(global, env)? else {
            return Ok(Self {
                transport: Arc::new(HttpClient::unix(socket(global, env), options)),
                base: "http://localhost".into(),
                authorization: None,
            });
        };
        let Some(key) = env.get("CERTCTL_API_KEY") else {
            return Err(CliError::Config(
                "CERTCTL_API_KEY: the server that --server or CERTCTL_SERVER_URL names wants a key; set it in the environment"
                    .into(),
            ));
        };
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", key.trim())).map_err(|_| {
                CliError::Config("CERTCTL_API_KEY: it holds characters that no key has".into())
            })?;
        authorization.set_sensitive(true);
        let trust = match bundle(global, env) {
            Some(path) => trust(&path)?,
            None => Trust::System,
        };
        let dialer = Dialer::new(Resolver::system(), Guard::Any);
        Ok(Self {
            transport: Arc::new(HttpClient::https(dialer, &trust, options)?),
            base: server.trim_end_matches('/').to_owned(),
            authorization: Some(authorization),
        })
    }

    /// Reads.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Reads what may not be there.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(CliError::Refused { status: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Does something.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::Failed(e.to_string()))?;
        self.call(Method::POST, path, body.into()).await
    }

    /// Reads a file.
    pub async fn bytes(&self, path: &str) -> Result<Bytes, CliError> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// Does something that answers with a file.
    pub async fn post_for_bytes(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::Failed(e.to_string()))?;
        self.answer(Method::POST, path, body.into()).await
    }

    /// Does something, to which "no content" is an answer too.
    pub async fn post_or_nothing<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Option<T>, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::Failed(e.to_string()))?;
        let answer = self.answer(Method::POST, path, body.into()).await?;
        (!answer.is_empty()).then(|| read(&answer)).transpose()
    }

    /// Changes something.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::Failed(e.to_string()))?;
        self.call(Method::PUT, path, body.into()).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.answer(Method::DELETE, path, Bytes::new())
            .await
            .map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CliError> {
        read(&self.answer(method, path, body).await?)
    }

    /// The body of a good answer.
    async fn answer(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        let request = request
            .body(body)
            .map_err(|e| CliError::Config(format!("--server: {e}")))?;
        let response = self.transport.call(request).await.map_err(no_answer)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        #[derive(serde::Deserialize)]
        struct Problem {
            message: String,
        }
        let message = match serde_json::from_slice::<Problem>(response.body()) {
            Ok(problem) => problem.message,
            Err(_) => format!("the server answered {status}"),
        };
        Err(CliError::Refused {
            status: status.as_u16(),
            message,
        })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(body)
        .map_err(|e| CliError::Failed(format!("the server's answer cannot be read: {e}")))
}

/// The address of the server to talk to, where one is named.
pub fn server<'a>(global: &'a Global, env: &'a Environment) -> Result<Option<&'a str>, CliError> {
    let server = global.named_server(env);
    match server.filter(|url| config::url_host(url).is_none()) {
        None => Ok(server),
        Some(url) => Err(CliError::Config(format!(
            "--server: {url:?} is no address such as https://certctl.example:8443"
        ))),
    }
}

/// The file of the CAs to trust: flag, variable.
pub fn bundle(global: &Global, env: &Environment) -> Option<PathBuf> {
    let variable = || env.get("CERTCTL_SERVER_CA_BUNDLE_PATH").map(PathBuf::from);
    global.ca_bundle.clone().or_else(variable)
}

/// Trust in the CAs of a file.
pub fn trust(bundle: &Path) -> Result<Trust, CliError> {
    Ok(Trust::from_pem(&super::host::read(bundle, MAX_BUNDLE)?)?)
}

fn no_answer(e: CallError) -> CliError {
    match e {
        CallError::Socket { path, reason } => {
            let path = path.display();
            CliError::Unreachable(match reason {
                ErrorKind::PermissionDenied => format!(
                    "you may not use {path}: run as its owner or a member of its group, or name a \
                     server by --server"
                ),
                ErrorKind::NotFound => format!(
                    "there is no server at {path}: start one, name its directory by --data-dir, or \
                     another server by --server"
                ),
                reason => format!(
                    "no server answers on {path} ({reason}): start one, name its directory by \
                     --data-dir, or another server by --server"
                ),
            })
        }
        e => e.into(),
    }
}

/// The socket: flag, variable, in the data directory, an installed server's.
fn socket(global: &Global, env: &Environment) -> PathBuf {
    let named = global
        .socket
        .clone()
        .or_else(|| env.get("CERTCTL_SOCKET").map(PathBuf::from));
    if let Some(socket) = named {
        return socket;
    }
    let by_directory = config::data_dir(env, global.data_dir.clone()).join(SOCKET_NAME);
    let system = PathBuf::from(SYSTEM_SOCKET);
    let named = global.data_dir.is_some() || env.get("CERTCTL_DATA_DIR").is_some();
    if !named && !by_directory.exists() && system.exists() {
        system
    } else {
        by_directory
    }
}
