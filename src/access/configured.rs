//! Keys that the configuration brings, for installations that keep their secrets elsewhere.

use super::Role;
use secrecy::{ExposeSecret, SecretString};

/// A key of the configuration.
#[derive(Debug, Clone)]
pub struct ConfiguredKey {
    /// The name under which the audit log has it.
    pub name: String,
    /// The key.
    pub secret: SecretString,
    /// The id of its role, or the name of a built-in one.
    pub role: String,
}

/// The longest name.
const MAX_NAME: usize = 64;
/// A key with this beginning is an agent's credential, and is looked up as such.
const AGENTS: &str = "cta_";
/// The beginning of every role's id, and of no role's name.
const ROLES: &str = "r-";

/// Reads a list of bare keys, each an administrator's: separated by commas or line ends.
///
/// # Errors
/// Which entry is wrong, and what is expected; never a part of a key.
pub fn admin_keys(text: &str) -> Result<Vec<ConfiguredKey>, String> {
    let keys = entries(text).enumerate().map(|(n, secret)| {
        let name = format!("legacy-key-{n}");
        key(&name, secret, Role::Admin.id()).map_err(|e| format!("key {}: {e}", n + 1))
    });
    distinct(keys.collect::<Result<_, _>>()?)
}

/// Reads a list of `name:key` and `name:key:role`: separated by commas or line ends. The role is a
/// viewer's where none is named. A name that comes twice, with the same role, is a key that is
/// being replaced: both are good.
///
/// # Errors
/// Which entry is wrong, and what is expected; never a part of a key.
pub fn named_keys(text: &str) -> Result<Vec<ConfiguredKey>, String> {
    let keys = entries(text).enumerate().map(|(n, entry)| {
        let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
        let made = match parts[..] {
            [name, secret] => key(name, secret, Role::Viewer.id()),
            [name, secret, role] => key(name, secret, role),
            _ => Err("name:key or name:key:role is expected".to_owned()),
        };
        made.map_err(|e| format!("entry {}: {e}", n + 1))
    });
    distinct(keys.collect::<Result<_, _>>()?)
}

/// Refuses a list in which a key comes twice, or a name with two roles.
///
/// # Errors
/// By the names.
pub fn distinct(keys: Vec<ConfiguredKey>) -> Result<Vec<ConfiguredKey>, String> {
    for (n, key) in keys.iter().enumerate() {
        for other in &keys[..n] {
            if key.secret.expose_secret() == other.secret.expose_secret() {
                let (name, other) = (&key.name, &other.name);
                return Err(format!(
                    "{name} and {other} are the same key: leave one out"
                ));
            }
            if key.name == other.name && key.role != other.role {
                let name = &key.name;
                return Err(format!(
                    "{name} has two roles: give both of its keys the same"
                ));
            }
        }
    }
    Ok(keys)
}

/// Whether a text can name a key: it stands in the audit log, where nothing else is named so.
pub fn is_key_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    let entries = text.split([',', '\n', '\r']).map(str::trim);
    entries.filter(|entry| !entry.is_empty())
}

fn key(name: &str, secret: &str, role: &str) -> Result<ConfiguredKey, String> {
    if !is_key_name(name) {
        return Err(format!(
            "a name is 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ - and starts with a letter or digit"
        ));
    }
    if secret.is_empty() || secret.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(format!(
            "{name}: a key of printable ASCII characters is expected"
        ));
    }
    if secret.starts_with(AGENTS) {
        return Err(format!(
            "{name}: {AGENTS}... is an agent's credential, not a key"
        ));
    }
    // Not the name of a role that was made here, which another may come to have.
    if !is_key_name(role) || (Role::of_text(role).is_none() && !role.starts_with(ROLES)) {
        return Err(format!(
            "{name}: there is no such role: the id of one is expected, such as r-operator, or the \
             name of a built-in one"
        ));
    }
    Ok(ConfiguredKey {
        name: name.to_owned(),
        secret: secret.to_owned().into(),
        role: role.to_owned(),
    })
}
