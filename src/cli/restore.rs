//! `certctl restore`.

use super::{
    CliError, Global, Output,
    backup::{self, Opens},
    client::Client,
    follow, host, output,
};
use crate::{
    api::shapes::RestoreShape,
    app::backup::{Machine, Place, Sink},
    config::Environment,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Put a backup in the place of the store. The server does not run meanwhile; when it is started
/// again it stands behind a fence: it answers, and does nothing before `restore unfence`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Restore {
    #[command(subcommand)]
    command: Option<After>,
    /// The backup: a file, or SINK/NAME
    #[arg(required = true)]
    backup: Option<Place>,
    /// Increments that follow it, in order
    increments: Vec<Place>,
    #[command(flatten)]
    opens: Opens,
    /// Take all increments of this sink, too, that follow the backup
    #[arg(long, value_name = "SINK", value_parser = backup::sink, conflicts_with = "increments")]
    with_increments: Option<Sink>,
    /// The same of the sink that CERTCTL_BACKUP_JOURNAL_SINK names
    #[arg(long, conflicts_with_all = ["increments", "with_increments"])]
    replay_journal: bool,
    /// Of those, only the ones before this backup or sequence number
    #[arg(long, value_name = "BACKUP")]
    before: Option<String>,
    /// When the server runs again, ask agents for what they have, and take up what was issued
    /// after the backup
    #[arg(
        long,
        conflicts_with_all = ["increments", "with_increments", "replay_journal"]
    )]
    reconcile: bool,
    /// Do all but the last step: nothing changes
    #[arg(long)]
    dry_run: bool,
    /// The directory to restore into [default: the data directory]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What comes after a restore.
#[derive(Debug, Subcommand)]
pub enum After {
    /// Show what the restored server would do
    Plan,
    /// Let the restored server act
    Unfence,
}

/// Runs it.
pub async fn run(command: Restore, global: &Global, env: &Environment) -> Result<(), CliError> {
    let output = global.output;
    match command.command {
        Some(After::Plan) => {
            let plan = Client::new(global, env)?.get("/restore").await?;
            show(&plan, output)
        }
        Some(After::Unfence) => {
            let client = Client::new(global, env)?;
            let plan: RestoreShape = client.post("/restore/unfence", &json!({})).await?;
            if output == Output::Json {
                return output::json(&plan);
            }
            output::line("The fence is lifted: the server acts.");
            Ok(())
        }
        None => restore(command, global, env).await,
    }
}

async fn restore(command: Restore, global: &Global, env: &Environment) -> Result<(), CliError> {
    global.on_this_machine("`certctl restore`")?;
    let Some(base) = command.backup else {
        return Err(CliError::Usage("which backup is to be restored?".into()));
    };
    let mut settings = backup::settings(global, env)?;
    if let Some(into) = command.into {
        settings.data_dir = into;
        settings.database = None;
    }
    let into = match &settings.database {
        Some(database) => format!("the database {}", database.name),
        None => settings.data_dir.display().to_string(),
    };
    let machine = Machine::this(settings)?;
    let name = base.name.clone();
    let sink = match command.replay_journal {
        true => Some(journal(env)?),
        false => command.with_increments,
    };
    if command.before.is_some() && sink.is_none() {
        return Err(CliError::Usage(
            "--before goes with --with-increments or --replay-journal".into(),
        ));
    }
    let mut places = vec![base];
    places.extend(command.increments);
    if let Some(sink) = sink {
        let found = machine.following(&places[0], &sink, command.before.as_deref());
        places.extend(found.await?);
    }
    if !command.yes && !command.dry_run {
        let question = format!(
            "{into} becomes what {name} holds; what is there now is kept beside it. Type yes to go on"
        );
        if !host::confirmed(&question)? {
            return Err(CliError::Failed("nothing was restored".into()));
        }
    }
    let keys = command.opens.keys()?;
    let bar = follow::spinner("restoring", global.output);
    let tell = &mut |done: u64| bar.set_message(format!("restoring: {done}"));
    let restored = machine
        .restore(&places, keys, (command.dry_run, command.reconcile), tell)
        .await;
    bar.finish_and_clear();
    let restored = restored?;
    if global.output == Output::Json {
        return output::json(&json!({
            "backup": name, "increments": places.len() - 1, "into": into,
            "dry_run": command.dry_run, "kept": restored.kept, "proof": restored.proof,
            "audit_head": restored.audit_head, "replaced_audit_head": restored.replaced_head,
        }));
    }
    let proof = &restored.proof;
    let verb = if command.dry_run {
        "could be restored"
    } else {
        "restored"
    };
    output::line(&format!(
        "{name} {verb} into {into}: {} audit events, {} CA keys that sign; the state of {}",
        proof.audit_entries,
        proof.ca_keys,
        proof.created_at.whole_seconds()
    ));
    if let Some(kept) = &restored.kept {
        output::line(&format!("What was there is kept in {kept}."));
    }
    if !command.dry_run {
        output::line(
            "Start the server: it stands behind a fence. `certctl restore plan` shows what it \
             would do, `certctl restore unfence` lets it.",
        );
    }
    Ok(())
}

/// The sink of the journal.
fn journal(env: &Environment) -> Result<Sink, CliError> {
    let setting = "CERTCTL_BACKUP_JOURNAL_SINK";
    let sink = env.get(setting).ok_or_else(|| {
        CliError::Usage(format!(
            "{setting} is not set here: name the journal's sink by --with-increments"
        ))
    })?;
    let bad = |e| CliError::Config(format!("{setting}: {e}"));
    backup::sink(sink).map_err(bad)
}

fn show(plan: &RestoreShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(plan);
    }
    let Some(backup) = &plan.backup else {
        output::line("This store was never restored.");
        return Ok(());
    };
    output::line(&format!(
        "Restored {} from {backup}, the state of {}.",
        output::moment(plan.restored_at.as_deref()),
        output::moment(plan.taken_at.as_deref())
    ));
    let fence = match (&plan.unfenced_at, plan.fenced) {
        (_, true) => "The fence stands. Once it is lifted, the server will at once:".to_owned(),
        (at, false) => format!("The fence was lifted {}.", output::moment(at.as_deref())),
    };
    output::line(&fence);
    for found in &plan.found {
        let what = match (&found.version_id, &found.refused) {
            (Some(version), _) => format!("taken up as {version}"),
            (None, Some(why)) => format!("not taken up: {why}"),
            (None, None) => "asked for".to_owned(),
        };
        output::line(&format!(
            "Issued after the backup: {} serial {} on {}, {what}",
            found.certificate_id, found.serial_number, found.target_id
        ));
    }
    if plan.fenced {
        for (what, ids) in [
            ("renew", &plan.renew),
            ("finish the revocation of", &plan.revoke),
            ("hand out the job", &plan.jobs),
        ] {
            for id in ids {
                output::line(&format!("  {what} {id}"));
            }
        }
        if plan.renew.is_empty() && plan.revoke.is_empty() && plan.jobs.is_empty() {
            output::line("  do nothing");
        }
        if plan.more {
            output::line("  and more");
        }
    }
    Ok(())
}
