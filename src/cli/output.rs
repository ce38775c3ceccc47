//! Printing results.

use super::{CliError, Output};
use crate::clock::{Clock, SystemClock};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};

/// Prints lines. A reader that has gone away is no failure.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{}", plain(text));
}

/// Prints bytes of ours. A reader that has gone away is no failure.
pub fn raw(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
}

/// Tells a failure on standard error: a line for people, an object on one line for programs. The
/// commands that it names are as they are `typed`.
pub fn failure(error: &CliError, program: bool, typed: impl Fn(&str) -> String) {
    let says = typed(&error.to_string());
    let text = if program {
        json!({
            "error": says, "hint": typed(error.hint()), "exit_code": error.exit_code(),
        })
        .to_string()
    } else {
        format!("certctl: {}", plain(&says))
    };
    let _ = writeln!(io::stderr(), "{text}");
}

/// Warns on standard error.
pub fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "certctl: {}", plain(text));
}

/// What is warned of: people read it on standard error as it is found, programs in the result.
/// What programs read on standard error is a failure alone.
#[derive(Debug)]
pub struct Warnings {
    output: Output,
    /// All, in the order in which they were found.
    pub all: Vec<String>,
}

impl Warnings {
    /// None yet.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            all: Vec::new(),
        }
    }

    /// Warns.
    pub fn add(&mut self, text: String) {
        if self.output == Output::Table {
            warn(&text);
        }
        self.all.push(text);
    }
}

/// A text of others as a terminal may have it: without control characters, line ends apart.
pub fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// Prints JSON.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CliError::Failed(e.to_string()))?;
    line(&text);
    Ok(())
}

/// Prints a table.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    for row in rows {
        // A line end within a cell could pass for a row.
        table.add_row(row.iter().map(|cell| plain(cell).replace('\n', " ")));
    }
    for row in table.to_string().lines() {
        line(row.trim_end());
    }
}

/// A moment of the wire, short: the date and time to the minute, or `-`.
pub fn moment(text: Option<&str>) -> String {
    match text.map(str::parse::<jiff::Timestamp>) {
        Some(Ok(t)) if t.as_second() > 0 => t.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        _ => "-".into(),
    }
}

/// A sentence of the server, its moments short as [`moment`] has them.
pub fn sentence(text: &str) -> String {
    let short = |word: &str| match word.parse::<jiff::Timestamp>() {
        Ok(_) => moment(Some(word)),
        Err(_) => word.to_owned(),
    };
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// A moment of the wire, as the time that has passed since, by this machine's clock.
pub fn ago(text: Option<&str>) -> String {
    let Some(Ok(at)) = text.map(str::parse::<jiff::Timestamp>) else {
        return "-".into();
    };
    let now = SystemClock.now().micros();
    let seconds = now.saturating_sub(at.as_microsecond()) / 1_000_000;
    match seconds {
        ..2 => "just now".into(),
        2..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
