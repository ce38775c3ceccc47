//! Agents and the tokens by which they join.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// An agent counts as online when it was heard within this time.
pub const ONLINE_WITHIN: Duration = Duration::from_secs(300);
/// A join token may replace an agent that has been silent for this long.
pub const REPLACEABLE_AFTER: Duration = Duration::from_secs(600);
/// A credential older than this is one that its agent fails to rotate.
pub const CREDENTIAL_OLD_AFTER: Duration = Duration::from_secs(45 * 86_400);
/// An agent's clock may differ from the server's by this much.
pub const CLOCK_MAY_DIFFER: Duration = Duration::from_secs(300);

/// The process that acts on a host, with an identity of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: Id,
    /// Its name, unique among agents that are not retired.
    pub name: String,
    /// The host's name.
    pub hostname: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub architecture: String,
    /// The version it was last heard with.
    pub version: String,
    /// SHA-256 of its secret, lower hex.
    pub secret_sha256: String,
    /// Since when that is its secret; `None`: since it enrolled.
    #[serde(default)]
    pub secret_since: Option<Time>,
    /// SHA-256 of the secret that takes the place of the present one when it is first used.
    #[serde(default)]
    pub next_secret_sha256: Option<String>,
    /// SHA-256 of the secret before the present one: whoever shows it has stolen it.
    #[serde(default)]
    pub last_secret_sha256: Option<String>,
    /// The join token that let it in.
    pub joined_by: Id,
    /// When.
    pub enrolled_at: Time,
    /// Keys of versions from before this moment were on a host that is gone, and not all of those
    /// versions are known to be replaced yet. `None`: nothing is to be made good.
    #[serde(default)]
    pub keys_lost_at: Option<Time>,
    /// Its end.
    #[serde(default)]
    pub retired: Option<Retired>,
    /// It is retired, and something may still hang on it: since when. `None`: nothing does.
    #[serde(default)]
    pub leaving_since: Option<Time>,
}

/// The end of an agent or a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// When.
    pub at: Time,
    /// Why; may be empty.
    pub reason: String,
}

/// What a secret is to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretIs {
    /// The one in use.
    Present,
    /// The one that will take its place.
    Next,
    /// One whose place was taken.
    Superseded,
    /// None of its own.
    Unknown,
}

impl Agent {
    /// Since when its secret is in use.
    pub fn secret_since(&self) -> Time {
        self.secret_since.unwrap_or(self.enrolled_at)
    }

    /// What the secret is to it of which `is` is true, given its SHA-256.
    pub fn secret_is(&self, is: impl Fn(&str) -> bool) -> SecretIs {
        let one = |hash: &Option<String>| hash.as_deref().is_some_and(&is);
        if is(&self.secret_sha256) {
            SecretIs::Present
        } else if one(&self.next_secret_sha256) {
            SecretIs::Next
        } else if one(&self.last_secret_sha256) {
            SecretIs::Superseded
        } else {
            SecretIs::Unknown
        }
    }

    /// The next secret is used: the present one is over.
    pub fn rotate(&mut self, now: Time) {
        if let Some(next) = self.next_secret_sha256.take() {
            self.last_secret_sha256 = Some(std::mem::replace(&mut self.secret_sha256, next));
            self.secret_since = Some(now);
        }
    }
}

/// When an agent was last heard, and what it said of itself. Apart from the agent, so that being
/// heard conflicts with nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The agent's id.
    pub id: Id,
    /// When it was last heard.
    pub heard_at: Time,
    /// What it said of itself with its last poll.
    #[serde(flatten)]
    pub said: Said,
}

/// What an agent says of itself with each poll.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// By how many milliseconds its clock is ahead of the server's; below 0, behind.
    #[serde(default)]
    pub clock_ahead_ms: Option<i64>,
    /// Not every target is as its journal says: a crash or a lost address is not made good yet.
    #[serde(default)]
    pub restoring: bool,
}

/// Whether an agent can be relied on; derived, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentStatus {
    /// Heard of late, and all is well.
    Online,
    /// Heard of late, and something is wrong.
    Degraded,
    /// Not heard of.
    Offline,
}

impl AgentStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Online, Self::Degraded, Self::Offline];

    /// The status of a word, whatever its case.
    pub fn of_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str().eq_ignore_ascii_case(word))
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "Online",
            Self::Degraded => "Degraded",
            Self::Offline => "Offline",
        }
    }
}

/// How an agent's version stands to the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// The same.
    Same,
    /// An older one; `far`: by more than one minor version, which is not supported.
    Older {
        /// By more than one minor version.
        far: bool,
    },
    /// A newer one.
    Newer {
        /// By more than one minor version.
        far: bool,
    },
    /// One of them is no version `major.minor.patch`.
    Unknown,
}

impl Skew {
    /// How `agent` stands to `server`.
    pub fn between(agent: &str, server: &str) -> Self {
        let (Some(a), Some(s)) = (numbers(agent), numbers(server)) else {
            return Self::Unknown;
        };
        let far = a.0 != s.0 || a.1.abs_diff(s.1) > 1;
        match a.cmp(&s) {
            std::cmp::Ordering::Equal => Self::Same,
            std::cmp::Ordering::Less => Self::Older { far },
            std::cmp::Ordering::Greater => Self::Newer { far },
        }
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Older { .. } => "older",
            Self::Newer { .. } => "newer",
            Self::Unknown => "unknown",
        }
    }
}

/// (major, minor, patch), without what a `-` or `+` begins.
fn numbers(version: &str) -> Option<(u64, u64, u64)> {
    let plain = version.split(['-', '+']).next()?;
    let mut parts = plain.splitn(3, '.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// What is wrong with an agent that was heard, each a sentence with its remedy; `now` is the
/// server's.
pub fn problems(agent: &Agent, said: &Said, server_version: &str, now: Time) -> Vec<String> {
    let mut problems = Vec::new();
    if let Skew::Older { far: true } | Skew::Newer { far: true } =
        Skew::between(&agent.version, server_version)
    {
        problems.push(format!(
            "it runs version {}, more than one minor version from the server's {server_version}: \
             install the server's version on its host",
            agent.version
        ));
    }
    if let Some(ahead) = said.clock_ahead_ms
        && Duration::from_millis(ahead.unsigned_abs()) > CLOCK_MAY_DIFFER
    {
        let side = if ahead > 0 { "ahead" } else { "behind" };
        problems.push(format!(
            "its clock is {} {side}: set the clock of its host",
            length(ahead.unsigned_abs() / 1_000)
        ));
    }
    if said.restoring {
        problems.push(
            "not every target is as it was left before the agent was started: its log says which \
             and why"
                .into(),
        );
    }
    if now.since(agent.secret_since()) > CREDENTIAL_OLD_AFTER {
        problems.push(format!(
            "its credential is in use since {} and is not rotated: its log says why",
            agent.secret_since().whole_seconds()
        ));
    }
    problems
}

/// Seconds, in the largest unit of which there are two.
fn length(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Lets agents join: a secret that is scoped in names, time and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: Id,
    /// A name for people.
    pub name: String,
    /// SHA-256 of the token, lower hex.
    pub secret_sha256: String,
    /// From then on it lets nobody in.
    pub expires_at: Time,
    /// How many agents it lets in. How many it has let in is a counter beside the row, so that
    /// agents that join at once do not conflict.
    pub max_uses: u32,
    /// It may replace an agent that has been silent for [`REPLACEABLE_AFTER`].
    pub replace: bool,
    /// The names it lets in; `None`: any.
    #[serde(default)]
    pub names: Option<NameScope>,
    /// When it was revoked.
    #[serde(default)]
    pub revoked_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
}

/// Names of agents: one, or all that begin so, which is written with a `*` at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NameScope {
    /// This one.
    Is(String),
    /// Those that begin so.
    BeginsWith(String),
}

impl NameScope {
    /// Whether a name is one of these.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Is(one) => one == name,
            Self::BeginsWith(start) => name.starts_with(start.as_str()),
        }
    }
}

impl FromStr for NameScope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, scope): (_, fn(String) -> Self) = match text.strip_suffix('*') {
            Some(start) => (start, Self::BeginsWith),
            None => (text, Self::Is),
        };
        let fits = (1..=128).contains(&name.len()) && !name.contains('*');
        if fits && !name.chars().any(char::is_control) {
            Ok(scope(name.to_owned()))
        } else {
            Err(
                "a name of 1 to 128 printable characters is accepted, or the beginning of names \
                 and a `*`, such as web-*"
                    .into(),
            )
        }
    }
}

impl fmt::Display for NameScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::BeginsWith(start) => write!(f, "{start}*"),
        }
    }
}

impl TryFrom<String> for NameScope {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NameScope> for String {
    fn from(scope: NameScope) -> Self {
        scope.to_string()
    }
}

/// Whether a join token lets agents in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It does.
    Valid,
    /// Its time is over.
    Expired,
    /// It has let in as many as it may.
    UsedUp,
    /// It was revoked.
    Revoked,
}

impl TokenState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::UsedUp => "used_up",
            Self::Revoked => "revoked",
        }
    }
}

impl JoinToken {
    /// Its state at `now`, having let in `uses`.
    pub fn state(&self, now: Time, uses: i64) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if uses >= i64::from(self.max_uses) {
            TokenState::UsedUp
        } else if now >= self.expires_at {
            TokenState::Expired
        } else {
            TokenState::Valid
        }
    }
}
