//! `certctl migrate` and `certctl rollback`: the format of this machine's store, with no server
//! running on it.

use super::{CliError, Global, Output, output};
use crate::{
    app::{
        Before, MigrationView, SchemaChange, SchemaStatus, StartError, Upkeep,
        backup_before_migration,
    },
    config::{self, Environment, Flags, ServerConfig},
};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::time::Duration;

/// A migration job and a server that looks whether it is done may meet at the store: the job waits
/// so long for it.
const PATIENCE: u32 = 30;

/// Show and change the format of the store. No server may run on it.
#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// Show the store's format, what was done to it and what is to be done
    Status,
    /// Show what `up` would do
    Plan {
        /// As far as this number [default: all that this version knows]
        #[arg(long, value_name = "N")]
        to: Option<u16>,
    },
    /// Make the migrations that are missing; a server does that by itself at its start
    Up(Up),
    /// Undo migrations, also those that a later version made
    Down(Down),
    /// Check the ledger's checksums and that every row can be read
    Verify,
}

/// How far up, and how.
#[derive(Debug, Args)]
pub struct Up {
    /// As far as this number [default: all that this version knows]
    #[arg(long, value_name = "N")]
    to: Option<u16>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on without a backup
    #[arg(long)]
    no_backup: bool,
}

/// How far down, and how.
#[derive(Debug, Args)]
pub struct Down {
    /// The format to go to: the number of the last migration that stays, 1 for none
    #[arg(long, value_name = "N")]
    to: u16,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on where fields hold values that the older format has no place for
    #[arg(long)]
    accept_data_loss: bool,
    /// Go on without a backup
    #[arg(long)]
    no_backup: bool,
}

/// Runs it.
pub async fn run(command: Migrate, global: &Global, env: &Environment) -> Result<(), CliError> {
    let config = settings(global, env)?;
    global.on_this_machine("`certctl migrate`", &config, env)?;
    // What only looks makes nothing; nor is there anything to undo where there is no store.
    let upkeep = match &command {
        Migrate::Up(up) if !up.dry_run => Upkeep::open(&config).await?,
        _ => Upkeep::find(&config).await?,
    };
    let done = match command {
        Migrate::Status => status(&upkeep, global).await,
        Migrate::Plan { to } => match upkeep.plan_up(to).await {
            Ok(change) => show(&change, "to be made", global.output),
            Err(e) => Err(e.into()),
        },
        Migrate::Up(command) => up(&command, &config, &upkeep, global.output).await,
        Migrate::Down(command) => down(&command, &config, &upkeep, global.output).await,
        Migrate::Verify => verify(&upkeep, global.output).await,
    };
    upkeep.close().await;
    done
}

/// `certctl rollback`.
pub async fn rollback(command: Down, global: &Global, env: &Environment) -> Result<(), CliError> {
    run(Migrate::Down(command), global, env).await
}

/// `certctl server --migrate-only`: brings the store up, with what every store must hold, and ends.
pub async fn only(config: &ServerConfig, no_backup: bool) -> Result<(), CliError> {
    let mut tries = 0;
    let upkeep = loop {
        match Upkeep::open(config).await {
            Err(StartError::InUse(path)) if tries < PATIENCE => {
                if tries == 0 {
                    tracing::info!(path, "the store is in use: waiting for it");
                }
                tries += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            opened => break opened?,
        }
    };
    let before = backup(config, no_backup);
    let change = upkeep.up(None, before, &|_, _| {}).await;
    let seeded = match change {
        Ok(change) => upkeep.seed().await.map(|()| change),
        Err(e) => Err(e),
    };
    upkeep.close().await;
    let change = seeded?;
    tracing::info!(
        from = change.from,
        to = change.to,
        "the store is ready for this version"
    );
    Ok(())
}

fn settings(global: &Global, env: &Environment) -> Result<ServerConfig, CliError> {
    let flags = Flags {
        data_dir: global.data_dir.clone(),
        socket: global.socket.clone(),
        ..Flags::default()
    };
    Ok(config::server_at_rest(env, flags)?.0)
}

/// What goes before a change of a store that holds data.
fn backup(config: &ServerConfig, waived: bool) -> impl Before + '_ {
    async move |store: &_| match waived {
        true => Ok(None),
        false => backup_before_migration(config, store).await,
    }
}

async fn status(upkeep: &Upkeep, global: &Global) -> Result<(), CliError> {
    let status = upkeep.status().await.map_err(StartError::from)?;
    if global.output == Output::Json {
        return output::json(&status);
    }
    let SchemaStatus {
        format,
        program_format,
        standing,
        ..
    } = &status;
    output::line(&format!(
        "store        format {format}, {}",
        standing.as_str()
    ));
    output::line(&format!("this version format {program_format}"));
    output::line(&format!(
        "may read     format {} and later",
        status.min_reader
    ));
    output::line(&format!(
        "may write    format {} and later",
        status.min_writer
    ));
    if status.unfinished {
        output::line(
            &global
                .typed("unfinished   rows are still to be rewritten: `certctl migrate up` goes on"),
        );
    }
    for number in &status.altered {
        output::line(&format!("ALTERED      migration {number}"));
    }
    if status.migrations.is_empty() {
        output::line("\nno migrations");
        return Ok(());
    }
    output::line("");
    table(&status.migrations);
    Ok(())
}

async fn up(
    command: &Up,
    config: &ServerConfig,
    upkeep: &Upkeep,
    output: Output,
) -> Result<(), CliError> {
    if command.dry_run {
        return show(&upkeep.plan_up(command.to).await?, "to be made", output);
    }
    let bar = progress(output);
    let change = upkeep
        .up(
            command.to,
            backup(config, command.no_backup),
            &|collection, rows| {
                tell(&bar, collection, rows);
            },
        )
        .await;
    bar.finish_and_clear();
    show(&change?, "made", output)
}

async fn down(
    command: &Down,
    config: &ServerConfig,
    upkeep: &Upkeep,
    output: Output,
) -> Result<(), CliError> {
    if command.dry_run {
        return show(&upkeep.plan_down(command.to).await?, "to be undone", output);
    }
    let bar = progress(output);
    let change = upkeep
        .down(
            command.to,
            command.accept_data_loss,
            backup(config, command.no_backup),
            &|collection, rows| tell(&bar, collection, rows),
        )
        .await;
    bar.finish_and_clear();
    show(&change?, "undone", output)
}

async fn verify(upkeep: &Upkeep, output: Output) -> Result<(), CliError> {
    let left = upkeep.verify().await?;
    if output == Output::Json {
        return output::json(&json!({"sound": true, "rows_to_be_rewritten": left}));
    }
    output::line("the ledger is sound, and every row can be read");
    for (collection, rows) in left.iter().filter(|(_, rows)| **rows > 0) {
        output::line(&format!(
            "{collection}: {rows} rows are still to be rewritten"
        ));
    }
    Ok(())
}

/// Shown on a terminal alone.
fn progress(output: Output) -> ProgressBar {
    if output == Output::Json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {human_pos} rows {elapsed}");
    let bar = ProgressBar::new_spinner();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(bar: &ProgressBar, collection: &str, rows: u64) {
    bar.set_message(collection.to_owned());
    bar.inc(rows);
}

fn show(change: &SchemaChange, said: &str, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(change);
    }
    if change.migrations.is_empty() {
        output::line(&format!(
            "nothing is {said}: the store has format {}",
            change.from
        ));
        return Ok(());
    }
    output::line(&format!(
        "from format {} to {}, {said}:",
        change.from, change.to
    ));
    table(&change.migrations);
    for hidden in &change.hidden {
        output::line(&format!(
            "out of sight: {}.{} in {} rows",
            hidden.collection, hidden.field, hidden.rows
        ));
    }
    if let Some(backup) = &change.backup {
        output::line(&format!("backup: {backup}"));
    }
    Ok(())
}

fn table(migrations: &[MigrationView]) {
    let header = [
        "NUMBER",
        "STATE",
        "COLLECTION",
        "WHAT",
        "CLASS",
        "OLDER VERSIONS",
        "UNDONE",
        "MADE",
    ];
    let rows = migrations.iter().map(|m| {
        let what = match m.edits.is_empty() {
            true => m.name.clone(),
            false => format!("{}: {}", m.name, m.edits.join(", ")),
        };
        vec![
            m.number.to_string(),
            m.state.to_owned(),
            m.collection.clone(),
            what,
            m.class.to_owned(),
            m.safety.to_owned(),
            if m.reversible { "yes" } else { "no" }.to_owned(),
            output::moment(m.applied_at.as_deref()),
        ]
    });
    output::table(&header, rows);
}
