//! `certctl restore`.

use super::{
    CliError, Global, Output,
    backup::{self, Opens},
    client::Client,
    follow, host,
    output::{self, Warnings},
};
use crate::{
    api::shapes::{FoundShape, RestoreShape, RestoreStepShape},
    app::backup::{BackupFailure, Doubt, Machine, Place, Sink, Stores},
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
    /// Do not ask, also where another store is there
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
            show(&plan, global)
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
    let Some(base) = command.backup else {
        return Err(CliError::Usage("which backup is to be restored?".into()));
    };
    let mut settings = backup::settings(global, env)?;
    // What is typed next is for the server of this store, whichever one the settings name.
    let mut told = global.clone();
    if let Some(into) = command.into {
        told.data_dir = Some(into.clone());
        told.socket = None;
        settings.data_dir = into;
        settings.database = None;
    } else if global.named_server(env).is_some() {
        told.data_dir = Some(settings.data_dir.clone());
    }
    global.on_this_machine("`certctl restore`", &settings, env)?;
    let into = match &settings.database {
        Some(database) => format!("the database {}", database.name),
        None => settings.data_dir.display().to_string(),
    };
    let machine = Machine::this(settings)?;
    let name = base.name.clone();
    if base.is_increment() {
        return Err(CliError::Usage(format!(
            "{name} is an increment: name the full backup that it follows first, then the \
             increments in their order, or --with-increments SINK"
        )));
    }
    let sink = match command.replay_journal {
        true => Some(journal(env)?),
        false => command.with_increments,
    };
    if command.before.is_some() && sink.is_none() {
        return Err(CliError::Usage(
            "--before goes with --with-increments or --replay-journal".into(),
        ));
    }
    let named_sink = sink.is_some();
    let asks = !command.yes && !command.dry_run;
    let mut warnings = Warnings::new(global.output);
    let mut places = vec![base];
    places.extend(command.increments);
    let mut without = None;
    if let Some(sink) = sink {
        let before = command.before.as_deref();
        if command.replay_journal {
            without = nothing_to_replay(&machine, &places[0], &sink).await?;
        }
        match &without {
            // Nobody looks: what was asked for is not left out.
            Some(why) if command.yes && !command.dry_run => {
                return Err(CliError::Failed(format!(
                    "{why}. Nothing has changed: where it is on a disk that is not mounted, mount \
                     that first; to restore {name} alone, leave out --replay-journal"
                )));
            }
            Some(why) => warnings.add(format!(
                "{why}: where it is on a disk that is not mounted, mount that first. It is not \
                 restored so with --yes"
            )),
            None => {
                let found = following(&machine, &places[0], &sink, before, &mut warnings).await?;
                if let Some(before) = before.filter(|_| command.replay_journal && found.is_empty())
                {
                    warnings.add(format!(
                        "the journal {sink} holds nothing that follows {name} and is before {before}"
                    ));
                }
                places.extend(found);
            }
        }
    }
    if places.len() == 1 && !command.replay_journal {
        journal_left(&machine, &places[0], env, &mut warnings).await;
    }
    let what = match without {
        Some(_) => format!("{name} alone, without a journal,"),
        None => name.clone(),
    };
    let keys = command.opens.keys()?;
    let bar = follow::spinner("restoring", global.output);
    let mut unasked = None;
    let agreed = &mut |stores: &Stores| {
        let answer = bar.suspend(|| agreed(stores, asks, (&into, &name, &what), &mut warnings));
        answer.unwrap_or_else(|e| {
            unasked = Some(e);
            false
        })
    };
    let tell = &mut |done: u64| bar.set_message(format!("restoring: {done}"));
    let how = (command.dry_run, command.reconcile);
    let restored = machine.restore(&places, keys, how, agreed, tell).await;
    bar.finish_and_clear();
    let restored = match unasked {
        Some(e) => return Err(e),
        None => restored.map_err(|e| {
            let increments = places.get(1..).unwrap_or_default();
            let is_increment = |name: &str| increments.iter().any(|place| place.name == name);
            match &e {
                BackupFailure::Verify { name, .. } if named_sink && is_increment(name) => {
                    CliError::Damaged(format!(
                        "{e}. Nothing has changed; `--before {name}` restores what is before it"
                    ))
                }
                _ => e.into(),
            }
        })?,
    };
    if global.output == Output::Json {
        return output::json(&json!({
            "backup": name, "increments": places.len() - 1, "into": into,
            "dry_run": command.dry_run, "kept": restored.kept, "proof": backup::proof_json(&restored.proof),
            "audit_head": restored.audit_head, "replaced_audit_head": restored.replaced_head,
            "store": restored.stores.comes, "replaced_store": restored.stores.there,
            "warnings": warnings.all,
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
        output::line(&told.typed(
            "Start the server: it stands behind a fence. `certctl restore plan` shows what it \
             would do, `certctl restore unfence` lets it.",
        ));
    }
    Ok(())
}

/// Whether what is there may be replaced; somebody is asked for that, and told where it is another
/// store's.
fn agreed(
    stores: &Stores,
    asks: bool,
    (into, name, what): (&str, &str, &str),
    warnings: &mut Warnings,
) -> Result<bool, CliError> {
    let mut question = format!("{into} becomes what {what} holds");
    if !stores.there.is_empty() {
        question += "; what is there now is kept beside it";
    }
    if stores.differ() {
        let short = |store: &str| store.chars().take(12).collect::<String>();
        let another = format!(
            "this is another store: {into} holds {}, and {name} is of {}. What is there is no \
             earlier or later state of what comes, and its agents know nothing of it",
            short(&stores.there),
            short(&stores.comes)
        );
        // Who is asked reads it in the question.
        match asks {
            true => {
                question = format!("{another}. {question}");
                warnings.all.push(another);
            }
            false => warnings.add(another),
        }
    }
    if !asks {
        return Ok(true);
    }
    host::confirmed(&question)
}

/// Why a journal holds nothing that follows a backup, where it does not. That may be so, or the
/// disk that it is on is not mounted.
async fn nothing_to_replay(
    machine: &Machine,
    base: &Place,
    sink: &Sink,
) -> Result<Option<String>, CliError> {
    let name = &base.name;
    if !machine.has(sink)? {
        return Ok(Some(format!(
            "the journal {sink} is not there, so that nothing follows {name}"
        )));
    }
    let found = machine.following(base, sink, None).await?;
    let nothing = found.places.is_empty();
    Ok(nothing.then(|| format!("the journal {sink} holds nothing that follows {name}")))
}

/// Tells that the configured journal holds what follows a backup that is to be restored alone. A
/// journal that cannot be read is no matter here.
async fn journal_left(machine: &Machine, base: &Place, env: &Environment, warnings: &mut Warnings) {
    let Ok(sink) = journal(env) else { return };
    if let Ok(found) = machine.following(base, &sink, None).await
        && !found.places.is_empty()
    {
        warnings.add(format!(
            "the journal {sink} holds {} increments that follow {}, and they are left out: \
             --replay-journal takes them",
            found.places.len(),
            base.name
        ));
    }
}

/// The increments of a sink that follow a backup; what is only called as one is told, and left out.
async fn following(
    machine: &Machine,
    base: &Place,
    sink: &Sink,
    before: Option<&str>,
    warnings: &mut Warnings,
) -> Result<Vec<Place>, CliError> {
    let found = machine.following(base, sink, before).await?;
    for name in &found.left_out {
        warnings.add(format!(
            "{sink}/{name} is left out: {}",
            Doubt::NoBackup.told().0
        ));
    }
    if found.of_later_lives > 0 {
        warnings.add(format!(
            "{} increments of {sink} are left out: the store was restored between {} and them, and \
             they follow a backup that was made after that",
            found.of_later_lives, base.name
        ));
    }
    Ok(found.places)
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

fn show(plan: &RestoreShape, global: &Global) -> Result<(), CliError> {
    if global.output == Output::Json {
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
        (_, true) => "The fence stands. Once it is lifted, the server will, at once or from the moment named on:".to_owned(),
        (at, false) => format!("The fence was lifted {}.", output::moment(at.as_deref())),
    };
    output::line(&fence);
    if plan.fenced {
        let rows = plan.steps.iter().map(|step| {
            vec![
                step.does.clone(),
                named(
                    step.certificate_id.as_deref(),
                    step.certificate_name.as_deref(),
                ),
                named(step.target_id.as_deref(), step.target_name.as_deref()),
                named(step.agent_id.as_deref(), step.agent_name.as_deref()),
                due(step),
                output::moment(step.expires_at.as_deref()),
            ]
        });
        if plan.steps.is_empty() {
            output::line("  do nothing");
        } else {
            output::table(
                &["DO", "CERTIFICATE", "TARGET", "AGENT", "DUE", "EXPIRES"],
                rows,
            );
        }
    }
    if !plan.found.is_empty() {
        output::line("Issued after the backup, as agents show:");
        let rows = plan.found.iter().map(|found| {
            vec![
                named(
                    Some(&found.certificate_id),
                    found.certificate_name.as_deref(),
                ),
                found.serial_number.clone(),
                named(Some(&found.target_id), found.target_name.as_deref()),
                named(Some(&found.agent_id), found.agent_name.as_deref()),
                output::moment(found.expires_at.as_deref()),
                became(found),
            ]
        });
        output::table(
            &[
                "CERTIFICATE",
                "SERIAL",
                "TARGET",
                "AGENT",
                "EXPIRES",
                "HERE",
            ],
            rows,
        );
        for found in &plan.found {
            if let Some(advice) = &found.advice {
                let advice = global.typed(advice);
                output::line(&format!("{}: {advice}", found.certificate_id));
            }
        }
    }
    if plan.more {
        output::line("There are more than are named here.");
    }
    Ok(())
}

/// Since when a step is due, or from when on.
fn due(step: &RestoreStepShape) -> String {
    let from = if step.later { "from " } else { "" };
    format!("{from}{}", output::moment(Some(&step.due_at)))
}

/// What became of a version that was found.
fn became(found: &FoundShape) -> String {
    match (&found.version_id, &found.refused) {
        (Some(version), _) => format!("taken up as {version}"),
        (None, Some(why)) => format!("not taken up: {why}"),
        (None, None) if found.expires_at.is_none() => "asked for".to_owned(),
        (None, None) => "unknown".to_owned(),
    }
}

/// What has a name by it, and by its id where that says more.
fn named(id: Option<&str>, name: Option<&str>) -> String {
    match (id, name) {
        (Some(id), Some(name)) if id != name => format!("{name} ({id})"),
        (id, _) => id.unwrap_or("-").to_owned(),
    }
}
