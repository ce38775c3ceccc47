//! The configuration file: TOML, one key a setting.
//!
//! ```toml
//! server_host = "0.0.0.0"
//! server_port = 8443
//! ```

use super::fault::Fault;
use std::{collections::BTreeMap, path::Path};
use toml::Value;

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "/etc/certctl/certctl.toml";

/// Reads the keys and values of a file's text. Numbers and truth values stand for their texts, a
/// list of texts for its members with commas between.
pub(super) fn parse(path: &Path, text: &str, faults: &mut Vec<Fault>) -> BTreeMap<String, String> {
    let file = || Some(path.display().to_string());
    let table: toml::Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(e) => {
            let line = e
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(0, |before| before.matches('\n').count() + 1);
            faults.push(Fault {
                setting: String::new(),
                file: file(),
                message: format!("line {line} is not TOML: {}", e.message()),
            });
            return BTreeMap::new();
        }
    };
    let mut values = BTreeMap::new();
    for (key, value) in table {
        match plain(&value) {
            Some(text) => {
                values.insert(key, text);
            }
            None => faults.push(Fault {
                setting: key,
                file: file(),
                message: "a text, a number, true or false, or a list of texts is expected; \
                          settings stand at the top of the file, not in tables"
                    .to_owned(),
            }),
        }
    }
    values
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(members) => {
            let texts: Option<Vec<&str>> = members.iter().map(Value::as_str).collect();
            // A comma parts members.
            let texts = texts.filter(|texts| texts.iter().all(|text| !text.contains(',')));
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}
