//! `certctl audit`.

use super::{CliError, Global, Output, client::Client, output};
use crate::{
    api::shapes::{ChainShape, EventShape, List},
    config::Environment,
    sys::{Disk, Files},
};
use clap::{Args, Subcommand};
use form_urlencoded::Serializer;
use std::path::PathBuf;

/// List, show and export events of the audit log, and see that nobody changed it.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List events, newest first
    List(Wanted),
    /// Show an event with all that is known of it
    Show {
        /// The event's id, such as audit-12
        event: String,
    },
    /// Print the events of a time, oldest first, a line of JSON each
    Export {
        /// From this moment on, such as 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        from: String,
        /// Up to this moment, 90 days later at most
        #[arg(long, value_name = "TIME")]
        to: String,
        /// Only those of this part: cert_lifecycle, auth or config
        #[arg(long)]
        category: Option<String>,
        /// So many at most [default: 50000]
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Write them to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Follow the log's hash links from end to end; ends with 1 where one does not hold
    Verify,
}

/// Which events.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Only those of this part: cert_lifecycle, auth or config
    #[arg(long)]
    category: Option<String>,
    /// Not before this moment, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Not after this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what this actor did
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, such as certificate_revoked
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to this kind of thing, such as certificate
    #[arg(long = "type", value_name = "TYPE")]
    resource_type: Option<String>,
    /// Only what was done to the thing of this id
    #[arg(long = "id", value_name = "ID")]
    resource_id: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Runs it.
pub async fn run(command: Audit, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::patient(global, env)?;
    let output = global.output;
    match command {
        Audit::List(wanted) => list(&client, &wanted, output).await,
        Audit::Show { event } => {
            let event: EventShape = client.get(&format!("/audit/{}", segment(&event))).await?;
            show(&event, output)
        }
        Audit::Export {
            from,
            to,
            category,
            limit,
            out,
        } => {
            let limit = limit.map(|n| n.to_string());
            let query = query([
                ("from", Some(&from)),
                ("to", Some(&to)),
                ("category", category.as_ref()),
                ("limit", limit.as_ref()),
            ]);
            let lines = client.bytes(&format!("/audit/export?{query}")).await?;
            match out {
                Some(out) => {
                    let written = Disk.write_durable(&out, &lines, 0o600);
                    written.map_err(|e| CliError::Storage(e.to_string()))
                }
                None => {
                    output::raw(&lines);
                    Ok(())
                }
            }
        }
        Audit::Verify => {
            let chain: ChainShape = client.post("/audit/verify", &serde_json::json!({})).await?;
            if output == Output::Json {
                output::json(&chain)?;
            }
            match chain.first_fault {
                Some(entry) => Err(CliError::Failed(format!(
                    "the audit log was changed: {entry} does not follow from what stands before it"
                ))),
                None => {
                    if output == Output::Table {
                        let entries = chain.entries.unwrap_or_default();
                        output::line(&format!("all {entries} entries follow from one another"));
                    }
                    Ok(())
                }
            }
        }
    }
}

async fn list(client: &Client, wanted: &Wanted, output: Output) -> Result<(), CliError> {
    let mut events: Vec<EventShape> = Vec::new();
    let mut cursor = None;
    while events.len() < wanted.limit {
        let per_page = (wanted.limit - events.len()).min(500).to_string();
        let query = query([
            ("category", wanted.category.as_ref()),
            ("since", wanted.since.as_ref()),
            ("until", wanted.until.as_ref()),
            ("actor", wanted.actor.as_ref()),
            ("action", wanted.action.as_ref()),
            ("resource_type", wanted.resource_type.as_ref()),
            ("resource_id", wanted.resource_id.as_ref()),
            ("per_page", Some(&per_page)),
            ("cursor", cursor.as_ref()),
        ]);
        let page: List<EventShape> = client.get(&format!("/audit?{query}")).await?;
        events.extend(page.data);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if output == Output::Json {
        return output::json(&events);
    }
    if events.is_empty() {
        output::line("There are no such events.");
        return Ok(());
    }
    output::table(
        &["ID", "TIME", "ACTOR", "ACTION", "ON"],
        events.iter().map(|e| {
            vec![
                e.id.clone(),
                output::moment(Some(&e.timestamp)),
                e.actor.clone(),
                e.action.clone(),
                format!("{} {}", e.resource_type, e.resource_id),
            ]
        }),
    );
    Ok(())
}

fn show(event: &EventShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(event);
    }
    let actor = format!("{} ({})", event.actor, event.actor_type);
    let on = format!("{} {}", event.resource_type, event.resource_id);
    let category = event.event_category.as_str().to_owned();
    for (name, value) in [
        ("event", &event.id),
        ("time", &event.timestamp),
        ("actor", &actor),
        ("action", &event.action),
        ("on", &on),
        ("category", &category),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    for (name, value) in &event.details {
        output::line(&format!("{name:<12} {value}"));
    }
    Ok(())
}

/// The parts of a query that are given.
fn query<const N: usize>(parts: [(&str, Option<&String>); N]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parts {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// A word as a part of a path.
fn segment(word: &str) -> String {
    form_urlencoded::byte_serialize(word.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}
