//! `certctl targets`.

use super::{
    CliError, Global, Output, attempts,
    client::Client,
    follow::{self, Wait},
    output,
};
use crate::{
    api::shapes::{Ignored, List, TargetChange, TargetNew, TargetShape, TestTriggered},
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

/// List, show, make, edit, test and delete targets.
#[derive(Debug, Subcommand)]
pub enum Targets {
    /// List targets, by name
    List,
    /// Show a target: its configuration, and its last test
    Show {
        /// The target's id
        target: Id,
    },
    /// Make a target
    Create(Create),
    /// Rename a target, or configure it anew: what its certificates have there is deployed again
    Edit {
        /// The target's id
        target: Id,
        /// Its new name
        #[arg(long)]
        name: Option<String>,
        /// What is to change of its configuration: a JSON object, or name=value, which may be
        /// repeated; a value `null` takes a field away
        #[arg(long, value_name = "JSON|NAME=VALUE")]
        set: Vec<String>,
    },
    /// Have its agent see whether a target can be used, and what it serves; changes nothing
    Test {
        /// The target's id
        target: Id,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete a target that no certificate has
    Delete {
        /// The target's id
        target: Id,
    },
}

/// What to make.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// Its type, such as File or NGINX
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// The id of the agent on whose host it is
    #[arg(long, value_name = "ID")]
    agent: Id,
    /// Its id; made when absent
    #[arg(long)]
    id: Option<Id>,
    /// Its configuration: a JSON object, or name=value, which may be repeated. A value that is
    /// JSON counts as JSON, any other as text
    #[arg(long, value_name = "JSON|NAME=VALUE")]
    set: Vec<String>,
}

/// Runs it.
pub async fn run(command: Targets, global: &Global, env: &Environment) -> Result<(), CliError> {
    // Before a server is asked for anything.
    let made = match &command {
        Targets::Create(new) => Some(settings(&new.set)?),
        Targets::Edit { set, .. } => Some(settings(set)?),
        _ => None,
    };
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Targets::List => list(&client, output).await,
        Targets::Show { target } => {
            let target: TargetShape = client.get(&format!("/targets/{target}")).await?;
            show(&client, &target, output).await
        }
        Targets::Create(new) => {
            let body = TargetNew {
                id: new.id.map(|id| id.to_string()),
                name: new.name,
                kind: new.kind,
                agent_id: new.agent.to_string(),
                config: made.unwrap_or_default(),
                enabled: Ignored,
            };
            let target: TargetShape = client.post("/targets", &body).await?;
            if output == Output::Json {
                return output::json(&target);
            }
            output::line(&format!("{} is made", target.id));
            output::line(&format!(
                "see whether it can be used: {}",
                global.call(&format!("targets test {}", target.id))
            ));
            Ok(())
        }
        Targets::Edit { target, name, set } => {
            if name.is_none() && set.is_empty() {
                let message = "nothing is to change: give --name or --set";
                return Err(CliError::Usage(message.into()));
            }
            let path = format!("/targets/{target}");
            let config = match set.is_empty() {
                true => None,
                false => {
                    let shown: TargetShape = client.get(&path).await?;
                    Some(changed(shown.config, made.unwrap_or_default()))
                }
            };
            let change = TargetChange {
                name,
                config,
                ..TargetChange::default()
            };
            let target: TargetShape = client.put(&path, &change).await?;
            show(&client, &target, output).await
        }
        Targets::Test { target, wait } => test(&client, &target, &wait, output).await,
        Targets::Delete { target } => {
            client.delete(&format!("/targets/{target}")).await?;
            if output == Output::Json {
                return output::json(&serde_json::json!({"status": "deleted"}));
            }
            output::line(&format!("{target} is deleted"));
            Ok(())
        }
    }
}

/// The configuration that flags say.
pub(super) fn settings(config: &[String]) -> Result<Value, CliError> {
    let mut fields = Map::new();
    for text in config {
        if text.trim_start().starts_with('{') {
            match serde_json::from_str::<Map<String, Value>>(text) {
                Ok(object) => fields.extend(object),
                Err(e) => return Err(CliError::Config(format!("--set: {e}"))),
            }
        } else if let Some((name, value)) = text.split_once('=')
            && !name.trim().is_empty()
        {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            fields.insert(name.trim().to_owned(), value);
        } else {
            return Err(CliError::Config(format!(
                "--set: {text:?} is neither a JSON object nor name=value"
            )));
        }
    }
    Ok(Value::Object(fields))
}

/// A configuration with these fields set, or taken away where they are null.
fn changed(config: Value, set: Value) -> Value {
    let (Value::Object(mut config), Value::Object(set)) = (config, set) else {
        return Value::Null;
    };
    for (name, value) in set {
        match value {
            Value::Null => config.remove(&name),
            value => config.insert(name, value),
        };
    }
    Value::Object(config)
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let mut all: Vec<TargetShape> = Vec::new();
    for page in 1.. {
        let path = format!("/targets?per_page=500&page={page}");
        let list: List<TargetShape> = client.get(&path).await?;
        let last = list.data.len() < 500;
        all.extend(list.data);
        if last {
            break;
        }
    }
    if output == Output::Json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::line("There are no targets yet.");
        return Ok(());
    }
    output::table(
        &["ID", "NAME", "TYPE", "AGENT", "TEST", "TESTED"],
        all.iter().map(|t| {
            vec![
                t.id.clone(),
                t.name.clone(),
                t.kind.clone(),
                t.agent_id.clone(),
                t.test_status.clone().unwrap_or_default(),
                output::moment(t.last_tested_at.as_deref()),
            ]
        }),
    );
    Ok(())
}

async fn show(client: &Client, target: &TargetShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(target);
    }
    let config = serde_json::to_string(&target.config);
    for (name, value) in [
        ("target", target.id.clone()),
        ("name", target.name.clone()),
        ("type", target.kind.clone()),
        ("agent", target.agent_id.clone()),
        ("config", config.unwrap_or_default()),
        ("test", target.test_status.clone().unwrap_or_default()),
        ("tested", output::moment(target.last_tested_at.as_deref())),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    if let Some(job) = &target.test_job_id
        && let Some(job) = client
            .find::<crate::api::shapes::JobShape>(&format!("/jobs/{job}"))
            .await?
        && let Some(attempt) = &job.last_attempt
    {
        attempts::print(attempt, None);
    }
    Ok(())
}

async fn test(client: &Client, target: &Id, wait: &Wait, output: Output) -> Result<(), CliError> {
    let path = format!("/targets/{target}/test");
    let triggered: TestTriggered = client.post(&path, &serde_json::json!({})).await?;
    let jobs = vec![triggered.job];
    follow::jobs(client, jobs, wait, "testing", output).await
}
