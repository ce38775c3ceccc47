//! Getting and keeping an identity.

use super::{
    Env, Paths,
    protocol::{Enrol, Enrolled},
    rotation,
    server::{self, problem},
};
use crate::{
    clock::{Rng, Time},
    crypt,
    id::Id,
    net::{CallError, Transport},
    sys::{FileError, Files},
};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use zeroize::Zeroizing;

const MAX_BYTES: usize = 256 * 1024;

/// What an agent asks for when it enrols.
#[derive(Debug, Clone)]
pub struct EnrolWish {
    /// A join token, `ctj_...`.
    pub token: SecretString,
    /// The agent's name, unique among live agents.
    pub name: String,
    /// The host's name.
    pub hostname: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub architecture: String,
    /// This program's version.
    pub version: String,
}

/// Who this agent is, where its server is and what it trusts: `<state>/identity/agent.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Identity {
    agent_id: Id,
    name: String,
    secret: SecretString,
    /// Since when that is the secret, by this host's clock.
    #[serde(default)]
    secret_since: Time,
    server_url: String,
    system_ca_pem: String,
}

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The host was never enrolled.
    #[error("this agent is not enrolled: run `certctl agent enrol` first")]
    None,
    /// Its file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its file is damaged.
    #[error("{} is damaged ({problem}): remove it and enrol again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: String,
    },
}

/// Why an agent was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The address is not one.
    #[error("{0:?} is not a server address such as https://certctl.example.org:8443")]
    Url(String),
    /// Another server's identity is in the way.
    #[error(
        "this agent is enrolled at {0} already: use another --state-dir, or remove the identity \
         directory to leave that server"
    )]
    OtherServer(String),
    /// The server does not take the token.
    #[error("the server refused the join token ({0}): make a new one, they expire and are used up")]
    Token(String),
    /// The secret that this enrolment began with was a retired agent's.
    #[error("{0}: remove the identity directory of the agent and enrol again, as another agent")]
    Retired(String),
    /// Another agent has the name.
    #[error(
        "an agent of this name is alive ({0}): choose another --name, or retire the other agent \
         and use a token that may replace it"
    )]
    NameAlive(String),
    /// The server gave another answer.
    #[error("the server answered {status}: {problem}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        problem: String,
    },
    /// The server was not reached.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The identity cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<FileError> for EnrolError {
    fn from(error: FileError) -> Self {
        Self::Identity(error.into())
    }
}

impl Identity {
    /// Reads the identity in `paths`; `None` before enrolment.
    pub fn load(files: &dyn Files, paths: &Paths) -> Result<Option<Self>, IdentityError> {
        read(files, paths.state.join("identity/agent.json"))
    }

    /// The agent's id.
    pub fn agent_id(&self) -> &Id {
        &self.agent_id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its server is, without a slash at the end.
    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// The server's system CA, PEM.
    pub fn system_ca_pem(&self) -> &str {
        &self.system_ca_pem
    }

    /// Its secret.
    pub(super) fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// Since when that is its secret.
    pub(super) fn secret_since(&self) -> Time {
        self.secret_since
    }

    /// The same agent by another secret.
    pub(super) fn with_secret(&self, secret: SecretString, secret_since: Time) -> Self {
        Self {
            secret,
            secret_since,
            ..self.clone()
        }
    }

    /// The bearer credential.
    pub(super) fn credential(&self) -> Zeroizing<String> {
        format!("cta_{}.{}", self.agent_id, self.secret.expose_secret()).into()
    }

    pub(super) fn save(&self, files: &dyn Files, paths: &Paths) -> Result<(), IdentityError> {
        #[derive(Serialize)]
        struct Written<'a> {
            agent_id: &'a Id,
            name: &'a str,
            secret: &'a str,
            secret_since: Time,
            server_url: &'a str,
            system_ca_pem: &'a str,
        }
        let written = Written {
            agent_id: &self.agent_id,
            name: &self.name,
            secret: self.secret.expose_secret(),
            secret_since: self.secret_since,
            server_url: &self.server_url,
            system_ca_pem: &self.system_ca_pem,
        };
        write(files, paths.state.join("identity/agent.json"), &written)
    }
}

/// The secret of an enrolment under way: kept before the server hears of it, so that a repeat
/// after a crash is the same agent.
#[derive(Serialize, Deserialize)]
struct Enrolling {
    server_url: String,
    name: String,
    secret: String,
}

impl Drop for Enrolling {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

/// Enrols this host at a server. `transport` must trust that server by what the operator gave: a
/// CA bundle or pin. A host already enrolled there keeps its identity, unless it is known to be a
/// retired agent's.
pub async fn enrol(
    env: &Env,
    paths: &Paths,
    transport: &dyn Transport,
    server_url: &str,
    wish: EnrolWish,
) -> Result<Identity, EnrolError> {
    let server_url = base_url(server_url)?;
    let files = &*env.files;
    if let Some(identity) = Identity::load(files, paths)? {
        if identity.server_url != server_url {
            return Err(EnrolError::OtherServer(identity.server_url));
        }
        // With two secrets under way the running agent finds out which one counts.
        if rotation::next(files, paths)?.is_none()
            && let Some(why) = server::retired(transport, &identity).await
        {
            return Err(EnrolError::Retired(why));
        }
        return Ok(identity);
    }
    files.make_dir(&paths.state.join("identity"), 0o700)?;
    let path = paths.state.join("identity/enrolling.json");
    let kept = read::<Enrolling>(files, path.clone())?
        .filter(|kept| kept.server_url == server_url && kept.name == wish.name);
    let enrolling = match kept {
        Some(kept) => kept,
        None => {
            let new = Enrolling {
                server_url: server_url.clone(),
                name: wish.name.clone(),
                secret: new_secret(&*env.rng),
            };
            write(files, path.clone(), &new)?;
            new
        }
    };
    let enrolled = ask(transport, &server_url, &wish, &enrolling.secret).await?;
    let identity = Identity {
        agent_id: enrolled.agent_id,
        name: wish.name,
        secret: enrolling.secret.as_str().into(),
        secret_since: env.clock.now(),
        server_url,
        system_ca_pem: enrolled.system_ca_pem,
    };
    identity.save(files, paths)?;
    files.remove(&path)?;
    tracing::info!(agent = %identity.agent_id, name = identity.name, "enrolled");
    Ok(identity)
}

async fn ask(
    transport: &dyn Transport,
    server_url: &str,
    wish: &EnrolWish,
    secret: &str,
) -> Result<Enrolled, EnrolError> {
    let body = Enrol {
        token: wish.token.expose_secret().into(),
        name: wish.name.clone(),
        hostname: wish.hostname.clone(),
        os: wish.os.clone(),
        architecture: wish.architecture.clone(),
        version: wish.version.clone(),
        secret_sha256: crypt::secret::hash(secret),
    };
    let request = serde_json::to_vec(&body)
        .map_err(|e| e.to_string())
        .and_then(|body| {
            Request::post(format!("{server_url}/api/v1/agents/enrol"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(Bytes::from(body))
                .map_err(|e| e.to_string())
        })
        .map_err(CallError::Request)?;
    let response = transport.call(request).await?;
    let said = || problem(response.body());
    match response.status() {
        StatusCode::CREATED | StatusCode::OK => {
            serde_json::from_slice(response.body()).map_err(|e| EnrolError::Refused {
                status: response.status(),
                problem: format!("not an enrolment ({e}): is this a certctl server?"),
            })
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(EnrolError::Token(said())),
        StatusCode::GONE => Err(EnrolError::Retired(said())),
        StatusCode::CONFLICT => Err(EnrolError::NameAlive(said())),
        status => Err(EnrolError::Refused {
            status,
            problem: said(),
        }),
    }
}

/// A new secret.
pub(super) fn new_secret(rng: &dyn Rng) -> String {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill(&mut *bytes);
    data_encoding::BASE64URL_NOPAD.encode(&*bytes)
}

/// The server's address as calls use it: scheme and authority, perhaps a path.
fn base_url(text: &str) -> Result<String, EnrolError> {
    let text = text.trim_end_matches('/');
    let refuse = || EnrolError::Url(text.chars().take(256).collect());
    let uri: Uri = text.parse().map_err(|_| refuse())?;
    match (uri.scheme_str(), uri.authority(), uri.query()) {
        (Some("https" | "http"), Some(_), None) => Ok(text.to_owned()),
        _ => Err(refuse()),
    }
}

pub(super) fn read<T: for<'de> Deserialize<'de>>(
    files: &dyn Files,
    path: PathBuf,
) -> Result<Option<T>, IdentityError> {
    let bytes = match files.read(&path, MAX_BYTES) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| IdentityError::Damaged {
            path,
            problem: e.to_string(),
        })
}

pub(super) fn write(
    files: &dyn Files,
    path: PathBuf,
    value: &impl Serialize,
) -> Result<(), IdentityError> {
    match serde_json::to_vec_pretty(value).map(Zeroizing::new) {
        Ok(bytes) => Ok(files.write_durable(&path, &bytes, 0o600)?),
        Err(e) => Err(IdentityError::Damaged {
            path,
            problem: e.to_string(),
        }),
    }
}
