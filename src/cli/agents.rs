//! `certctl agents`.

use super::{CliError, Global, Output, client::Client, output};
use crate::{
    api::shapes::{
        AgentDetailShape, AgentShape, List, Retire, RetiredShape, TokenMadeShape, TokenNew,
        TokenShape,
    },
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Let agents join, see how they are, retire them.
#[derive(Debug, Subcommand)]
pub enum Agents {
    /// Make, list, show and revoke the tokens by which agents join
    #[command(subcommand)]
    Token(Tokens),
    /// List agents
    List(ListArgs),
    /// Show an agent: its health, its credential, and what hangs on it
    Show {
        /// The agent's id or name
        agent: String,
    },
    /// Retire an agent: its credential ends, and it stops
    Retire {
        /// The agent's id or name
        agent: String,
        /// Also when targets, certificates or jobs hang on it, which are ended then; wants --reason
        #[arg(long)]
        force: bool,
        /// Why, for the audit log and for the agent
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Which agents to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that are online, degraded (heard, but something is wrong) or offline
    #[arg(long)]
    status: Option<String>,
    /// Only those of this version
    #[arg(long = "agent-version", value_name = "VERSION")]
    version: Option<String>,
    /// Only those on this operating system
    #[arg(long)]
    os: Option<String>,
    /// Those that are retired instead
    #[arg(long, conflicts_with_all = ["status", "version", "os"])]
    retired: bool,
}

/// Join tokens.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a join token and print the command that enrols a host by it
    Create(TokenArgs),
    /// List join tokens
    List,
    /// Show a join token, without its secret
    Show {
        /// The token's id
        token: Id,
    },
    /// Revoke a join token: it lets nobody in any more
    Revoke {
        /// The token's id
        token: Id,
    },
}

/// A join token to make.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// A name for people
    #[arg(long, default_value = "")]
    name: String,
    /// How long it lets agents in, such as 30m, 12h or 7d
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = time)]
    expires: Duration,
    /// How many agents it lets in
    #[arg(long, default_value_t = 1, value_name = "N")]
    max_uses: u32,
    /// It may replace an agent of the same name that has been silent for 10 minutes
    #[arg(long)]
    replace: bool,
    /// The name that an agent must have to join by it, or the beginning of names and a `*`
    #[arg(long = "for", value_name = "NAME")]
    names: Option<String>,
}

/// Runs it.
pub async fn run(command: Agents, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Agents::Token(Tokens::Create(args)) => create_token(&client, args, output).await,
        Agents::Token(Tokens::List) => list_tokens(&client, output).await,
        Agents::Token(Tokens::Show { token }) => {
            let token = client.get(&format!("/agents/tokens/{token}")).await?;
            show_token(&token, output)
        }
        Agents::Token(Tokens::Revoke { token }) => {
            let path = format!("/agents/tokens/{token}");
            client.delete(&path).await?;
            show_token(&client.get(&path).await?, output)
        }
        Agents::List(args) => list(&client, &args, output).await,
        Agents::Show { agent } => show(&find(&client, &agent).await?, output),
        Agents::Retire {
            agent,
            force,
            reason,
        } => retire(&client, &agent, Retire { force, reason }, output).await,
    }
}

/// A time as `90s`, `30m`, `12h` or `7d`.
pub fn time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = match text.strip_suffix('d').map(str::parse::<i64>) {
        Some(Ok(days)) => jiff::SignedDuration::from_hours(days.saturating_mul(24).min(1 << 20)),
        _ => text
            .parse()
            .map_err(|_| "a time such as 30m, 12h or 7d is expected")?,
    };
    span.try_into()
        .map_err(|_| "a time above 0 is expected".into())
}

/// All rows of a list that goes on by cursor.
async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>, CliError> {
    let mut rows = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}page_size=500&cursor={cursor}");
        let list: List<T> = client.get(&path).await?;
        rows.extend(list.data);
        next = list.next_cursor;
    }
    Ok(rows)
}

async fn create_token(client: &Client, args: TokenArgs, output: Output) -> Result<(), CliError> {
    let new = TokenNew {
        name: args.name,
        expires_in_seconds: args.expires.as_secs(),
        max_uses: args.max_uses,
        replace: args.replace,
        names: args.names,
    };
    let made: TokenMadeShape = client.post("/agents/tokens", &new).await?;
    if output == Output::Json {
        return output::json(&made);
    }
    let uses = match new.max_uses {
        1 => "one agent".to_owned(),
        n => format!("{n} agents"),
    };
    output::line(&format!(
        "join token {} lets in {uses} until {}; its secret is shown this once",
        made.id,
        output::moment(Some(&made.expires_at))
    ));
    output::line("");
    output::line("Run on the host:");
    output::line(&format!("  {}", made.command));
    Ok(())
}

async fn list_tokens(client: &Client, output: Output) -> Result<(), CliError> {
    let tokens: Vec<TokenShape> = all(client, "/agents/tokens").await?;
    if output == Output::Json {
        return output::json(&tokens);
    }
    if tokens.is_empty() {
        output::line("There are no join tokens.");
        return Ok(());
    }
    output::table(
        &[
            "ID", "NAME", "STATE", "USES", "FOR", "REPLACE", "CREATED", "EXPIRES",
        ],
        tokens.iter().map(|t| {
            vec![
                t.id.clone(),
                or_dash(&t.name),
                t.state.clone(),
                format!("{}/{}", t.uses, t.max_uses),
                t.names.clone().unwrap_or_else(|| "any".into()),
                if t.replace { "yes" } else { "no" }.into(),
                output::moment(Some(&t.created_at)),
                output::moment(Some(&t.expires_at)),
            ]
        }),
    );
    Ok(())
}

fn show_token(t: &TokenShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(t);
    }
    let mut rows = vec![
        ("join token", t.id.clone()),
        ("name", or_dash(&t.name)),
        ("state", t.state.clone()),
        ("uses", format!("{} of {}", t.uses, t.max_uses)),
        ("for", t.names.clone().unwrap_or_else(|| "any name".into())),
        ("replaces", if t.replace { "yes" } else { "no" }.into()),
        ("created", output::moment(Some(&t.created_at))),
        ("expires", output::moment(Some(&t.expires_at))),
    ];
    if t.revoked_at.is_some() {
        rows.push(("revoked", output::moment(t.revoked_at.as_deref())));
    }
    lines(rows);
    Ok(())
}

async fn list(client: &Client, args: &ListArgs, output: Output) -> Result<(), CliError> {
    let path = if args.retired {
        "/agents/retired".to_owned()
    } else {
        let filters = [
            ("status", &args.status),
            ("version", &args.version),
            ("os", &args.os),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in filters {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        match query.finish() {
            query if query.is_empty() => "/agents".into(),
            query => format!("/agents?{query}"),
        }
    };
    let agents: Vec<AgentShape> = all(client, &path).await?;
    if output == Output::Json {
        return output::json(&agents);
    }
    if agents.is_empty() {
        output::line("There are no such agents. `certctl agents token create` lets one join.");
        return Ok(());
    }
    if args.retired {
        output::table(
            &["ID", "NAME", "HOST", "RETIRED", "REASON"],
            agents.iter().map(|a| {
                vec![
                    a.id.clone(),
                    a.name.clone(),
                    a.hostname.clone(),
                    output::moment(a.retired_at.as_deref()),
                    or_dash(a.retired_reason.as_deref().unwrap_or_default()),
                ]
            }),
        );
        return Ok(());
    }
    output::table(
        &[
            "ID",
            "NAME",
            "HOST",
            "STATUS",
            "VERSION",
            "LAST HEARD",
            "TARGETS",
            "JOBS",
        ],
        agents.iter().map(|a| {
            vec![
                a.id.clone(),
                a.name.clone(),
                a.hostname.clone(),
                a.status.clone(),
                version(a),
                output::moment(a.last_heartbeat_at.as_deref()),
                a.counts.active_targets.to_string(),
                a.counts.pending_jobs.to_string(),
            ]
        }),
    );
    Ok(())
}

fn version(a: &AgentShape) -> String {
    match a.version_skew.as_str() {
        "same" | "unknown" => a.version.clone(),
        skew => format!("{} ({skew})", a.version),
    }
}

/// The agent of an id, else of a name.
async fn find(client: &Client, agent: &str) -> Result<AgentDetailShape, CliError> {
    if let Ok(id) = agent.parse::<Id>()
        && let Some(found) = client.find(&format!("/agents/{id}")).await?
    {
        return Ok(found);
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("name", agent);
    let named: List<AgentShape> = client.get(&format!("/agents?{}", query.finish())).await?;
    match named.data.first() {
        Some(found) => client.get(&format!("/agents/{}", found.id)).await,
        None => Err(CliError::Failed(format!(
            "there is no agent with the id or name {agent:?}: `certctl agents list` shows them"
        ))),
    }
}

fn show(detail: &AgentDetailShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(detail);
    }
    let a = &detail.agent;
    let mut rows = vec![
        ("agent", a.id.clone()),
        ("name", a.name.clone()),
        (
            "host",
            format!("{} ({} {})", a.hostname, a.os, a.architecture),
        ),
        ("status", a.status.clone()),
        ("last heard", output::moment(a.last_heartbeat_at.as_deref())),
        (
            "version",
            format!("{}, the server's: {}", a.version, a.version_skew),
        ),
        ("clock", clock(a.clock_ahead_ms)),
        ("enrolled", output::moment(Some(&a.registered_at))),
        (
            "credential",
            format!("in use since {}", output::moment(Some(&a.credential_since))),
        ),
    ];
    if let Some(at) = &a.retired_at {
        rows.push(("retired", output::moment(Some(at))));
        let reason = a.retired_reason.as_deref().unwrap_or_default();
        rows.push(("reason", or_dash(reason)));
    }
    for problem in &a.problems {
        rows.push(("problem", output::sentence(problem)));
    }
    lines(rows);
    output::line("");
    if detail.targets.is_empty() {
        output::line("It has no targets.");
    } else {
        output::table(
            &["TARGET", "NAME", "TYPE", "PROBLEM"],
            detail.targets.iter().map(|t| {
                let problem = t.problem.as_deref().unwrap_or_default();
                vec![
                    t.id.clone(),
                    t.name.clone(),
                    t.kind.clone(),
                    or_dash(problem),
                ]
            }),
        );
    }
    output::line("");
    if detail.certificates.is_empty() {
        output::line("It holds no certificate's key.");
    } else {
        output::table(
            &["CERTIFICATE", "NAME"],
            detail
                .certificates
                .iter()
                .map(|c| vec![c.id.clone(), c.name.clone()]),
        );
        more(a.counts.active_certificates, detail.certificates.len());
    }
    output::line("");
    if detail.jobs.is_empty() {
        output::line("It has no open jobs.");
    } else {
        output::table(
            &[
                "JOB",
                "TYPE",
                "CERTIFICATE",
                "STATUS",
                "ATTEMPTS",
                "LAST ERROR",
            ],
            detail.jobs.iter().map(|j| {
                vec![
                    j.id.clone(),
                    j.kind.clone(),
                    or_dash(j.certificate_id.as_deref().unwrap_or_default()),
                    j.status.clone(),
                    j.attempts.to_string(),
                    or_dash(j.last_error.as_deref().unwrap_or_default()),
                ]
            }),
        );
        more(a.counts.pending_jobs, detail.jobs.len());
    }
    Ok(())
}

fn more(all: u64, shown: usize) {
    let rest = all.saturating_sub(shown as u64);
    if rest > 0 {
        output::line(&format!("... and {rest} more"));
    }
}

fn clock(ahead_ms: Option<i64>) -> String {
    match ahead_ms {
        None => "-".into(),
        Some(ahead) if ahead.unsigned_abs() < 1_000 => "as the server's".into(),
        Some(ahead) => {
            let side = if ahead > 0 { "ahead" } else { "behind" };
            format!("{} s {side}", ahead.unsigned_abs() / 1_000)
        }
    }
}

async fn retire(
    client: &Client,
    agent: &str,
    wish: Retire,
    output: Output,
) -> Result<(), CliError> {
    let found = find(client, agent).await?.agent;
    let path = format!("/agents/{}/retire", found.id);
    let retired: Option<RetiredShape> = client.post_or_nothing(&path, &wish).await?;
    if output == Output::Json {
        return match retired {
            Some(retired) => output::json(&retired),
            None => output::json(&serde_json::json!({"already_retired": true})),
        };
    }
    match retired {
        None => output::line(&format!("agent {} was retired before", found.name)),
        Some(r) if r.cascade => output::line(&format!(
            "agent {} is retired, and with it {} targets, {} certificates and {} jobs that hung \
             on it",
            found.name,
            r.counts.active_targets,
            r.counts.active_certificates,
            r.counts.pending_jobs
        )),
        Some(_) => output::line(&format!("agent {} is retired", found.name)),
    }
    Ok(())
}

fn lines(rows: Vec<(&str, String)>) {
    for (name, value) in rows {
        output::line(&format!("{name:<12} {value}"));
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}
