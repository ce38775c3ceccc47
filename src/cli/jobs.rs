//! `certctl jobs`.

use super::{CliError, Global, Output, attempts, client::Client, output};
use crate::{
    api::shapes::{JobShape, List},
    config::Environment,
    id::Id,
};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

/// List, show and cancel jobs.
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs, newest first
    List {
        /// Only those of this status: pending, running, completed, failed or cancelled
        #[arg(long)]
        status: Option<String>,
        /// Only those of this type: issuance, renewal, deployment, dryrun or targettest
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only those for this certificate
        #[arg(long, value_name = "ID")]
        certificate: Option<Id>,
        /// Only those that this agent runs
        #[arg(long, value_name = "ID")]
        agent: Option<Id>,
        /// Only those on this target
        #[arg(long, value_name = "ID")]
        target: Option<Id>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N",
              value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Show a job: where it stands, and how its last attempt ended
    Show {
        /// The job's id
        job: Id,
    },
    /// Cancel a job; one that is being run is stopped and undone first
    Cancel {
        /// The job's id
        job: Id,
    },
}

/// Runs it.
pub async fn run(command: Jobs, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    match command {
        Jobs::List {
            status,
            kind,
            certificate,
            agent,
            target,
            limit,
        } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in [
                ("status", status),
                ("type", kind),
                ("certificate_id", certificate.map(|id| id.to_string())),
                ("agent_id", agent.map(|id| id.to_string())),
                ("target_id", target.map(|id| id.to_string())),
            ] {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            list(&client, &query.finish(), limit as usize, global.output).await
        }
        Jobs::Show { job } => {
            let job: JobShape = client.get(&format!("/jobs/{job}")).await?;
            if global.output == Output::Json {
                return output::json(&job);
            }
            show(&job);
            Ok(())
        }
        Jobs::Cancel { job } => cancel(&client, &job, global.output).await,
    }
}

async fn list(client: &Client, query: &str, limit: usize, output: Output) -> Result<(), CliError> {
    let mut all: Vec<JobShape> = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next.filter(|_| all.len() < limit) {
        let size = (limit - all.len()).min(500);
        let path = format!("/jobs?{query}&page_size={size}&cursor={cursor}");
        let page: List<JobShape> = client.get(&path).await?;
        all.extend(page.data);
        next = page.next_cursor;
    }
    if output == Output::Json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::line("There are no such jobs.");
        return Ok(());
    }
    output::table(
        &["ID", "TYPE", "FOR", "STATUS", "TRIED", "MADE", "SAYS"],
        all.iter().map(|job| {
            vec![
                job.id.clone(),
                job.kind.clone(),
                subject(job),
                job.status.clone(),
                format!("{}/{}", job.attempts, job.max_attempts),
                output::moment(Some(&job.created_at)),
                output::sentence(&says(job)),
            ]
        }),
    );
    Ok(())
}

/// What a job is for.
fn subject(job: &JobShape) -> String {
    match (&job.certificate_id, &job.target_id) {
        (Some(certificate), Some(target)) => format!("{certificate} on {target}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => "-".into(),
    }
}

/// What there is to know of a job, in a line.
fn says(job: &JobShape) -> String {
    let ended_well = job.status == "Completed";
    let error = job.last_error.clone().filter(|_| !ended_well);
    let wanted = || job.unwanted.clone();
    match (&job.waits_for, error) {
        (Some(waits), Some(error)) => format!("{waits}; {error}"),
        (Some(waits), None) => waits.clone(),
        (None, error) => wanted().or(error).unwrap_or_default(),
    }
}

/// Prints a job.
pub fn show(job: &JobShape) {
    let mut rows = vec![
        ("job", job.id.clone()),
        ("type", job.kind.clone()),
        ("for", subject(job)),
        ("agent", job.agent_id.clone()),
        ("status", format!("{} ({})", job.status, job.state)),
        ("tried", format!("{} of {}", job.attempts, job.max_attempts)),
        ("made", output::moment(Some(&job.created_at))),
        ("begun", output::moment(job.started_at.as_deref())),
        ("ended", output::moment(job.completed_at.as_deref())),
    ];
    if let Some(waits) = &job.waits_for {
        rows.push(("waits", output::sentence(waits)));
    }
    if let Some(why) = &job.unwanted {
        rows.push(("unwanted", why.clone()));
    }
    if let Some(error) = &job.last_error {
        rows.push(("error", error.clone()));
    }
    for (name, value) in rows {
        output::line(&format!("{name:<12} {value}"));
    }
    if let Some(attempt) = &job.last_attempt {
        output::line(&format!(
            "{:<12} {}",
            "last attempt",
            attempts::headline(attempt)
        ));
        attempts::print(attempt, job.last_error.as_deref());
    }
}

#[derive(Deserialize)]
struct Cancelled {
    status: String,
}

async fn cancel(client: &Client, job: &Id, output: Output) -> Result<(), CliError> {
    let path = format!("/jobs/{job}/cancel");
    let answer: Value = client.post(&path, &serde_json::json!({})).await?;
    if output == Output::Json {
        return output::json(&answer);
    }
    let Cancelled { status } = serde_json::from_value(answer)
        .map_err(|e| CliError::Failed(format!("the server's answer cannot be read: {e}")))?;
    output::line(&match status.as_str() {
        "job_cancelled" => format!("{job} is cancelled"),
        _ => format!("{job} is being stopped: its agent undoes what it did, within a minute"),
    });
    Ok(())
}
