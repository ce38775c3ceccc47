//! What `certctl profiles`, `renewal-policies`, `policies`, `owners` and `teams` have in common:
//! documents that a server keeps by name.

use super::{CliError, Output, client::Client, output};
use crate::{api::shapes::List, id::Id};
use serde::{Serialize, de::DeserializeOwned};

/// Rows asked for at a time.
const PAGE: usize = 500;

/// A kind of document.
pub trait Kind {
    /// A document as the server shows it.
    type Shape: Serialize + DeserializeOwned;
    /// Its path below the API's.
    const PATH: &'static str;
    /// What there are none of.
    const MANY: &'static str;
    /// The columns of a list.
    const HEADER: &'static [&'static str];

    /// The row of a list.
    fn row(shape: &Self::Shape) -> Vec<String>;
    /// What is told of one, the id first.
    fn facts(shape: &Self::Shape) -> Vec<(&'static str, String)>;
}

/// Lists them.
pub async fn list<K: Kind>(client: &Client, output: Output) -> Result<(), CliError> {
    let mut all: Vec<K::Shape> = Vec::new();
    for page in 1.. {
        let path = format!("{}?per_page={PAGE}&page={page}", K::PATH);
        let list: List<K::Shape> = client.get(&path).await?;
        let last = list.data.len() < PAGE;
        all.extend(list.data);
        if last {
            break;
        }
    }
    if output == Output::Json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::line(&format!("There are no {} yet.", K::MANY));
        return Ok(());
    }
    output::table(K::HEADER, all.iter().map(K::row));
    Ok(())
}

/// Shows one.
pub async fn show<K: Kind>(client: &Client, id: &Id, output: Output) -> Result<(), CliError> {
    let shape: K::Shape = client.get(&format!("{}/{id}", K::PATH)).await?;
    tell::<K>(&shape, output)
}

/// Makes one.
pub async fn create<K: Kind>(
    client: &Client,
    wish: &impl Serialize,
    output: Output,
) -> Result<(), CliError> {
    let shape: K::Shape = client.post(K::PATH, wish).await?;
    tell::<K>(&shape, output)
}

/// Edits one.
pub async fn edit<K: Kind>(
    client: &Client,
    id: &Id,
    wish: &impl Serialize,
    output: Output,
) -> Result<(), CliError> {
    let shape: K::Shape = client.put(&format!("{}/{id}", K::PATH), wish).await?;
    tell::<K>(&shape, output)
}

/// Deletes one.
pub async fn delete<K: Kind>(client: &Client, id: &Id, output: Output) -> Result<(), CliError> {
    client.delete(&format!("{}/{id}", K::PATH)).await?;
    if output == Output::Json {
        return output::json(&serde_json::json!({"status": "deleted"}));
    }
    output::line(&format!("{id} is deleted"));
    Ok(())
}

fn tell<K: Kind>(shape: &K::Shape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(shape);
    }
    for (name, value) in K::facts(shape) {
        output::line(format!("{name:<12} {value}").trim_end());
    }
    Ok(())
}

/// The entries of a repeated flag; one that is empty clears the list.
pub fn entries(given: Vec<String>) -> Option<Vec<String>> {
    let some = !given.is_empty();
    some.then(|| {
        given
            .into_iter()
            .filter(|entry| !entry.is_empty())
            .collect()
    })
}

/// A number of seconds, or one with a unit: `90d`, `12h`, `30m`, `45s`.
pub fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['d', 'h', 'm', 's']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let factor = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        _ => 1,
    };
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    seconds.ok_or_else(|| format!("{text:?} is no time such as 90d, 12h, 30m or 45s"))
}

/// Seconds as [`seconds`] reads them, in the largest unit that divides them.
pub fn span(seconds: u64) -> String {
    for (factor, unit) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds > 0 && seconds.is_multiple_of(factor) {
            return format!("{}{unit}", seconds / factor);
        }
    }
    format!("{seconds}s")
}
