//! `certctl backup`.

use super::{
    CliError, Global, Output,
    client::Client,
    follow, host,
    output::{self, Warnings},
};
use crate::{
    api::shapes::{BackupRunShape, BackupShape, BackupStateShape, NewBackup, Seq},
    app::backup::{
        BackupFailure, Keep, Keys, Locking, Machine, Place, Progress, Proof, Since, Sink, Stored,
        expired,
    },
    config::{self, Environment, Flags, ServerConfig},
    sys::size,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// How often a running backup is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Make, list, verify and remove backups.
#[derive(Debug, Subcommand)]
pub enum Backups {
    /// Make a backup, while the server runs or while it does not
    Create(Create),
    /// Read all of a backup; with --restore, restore it into a scratch store and look at that
    Verify(Verify),
    /// List the backups in a sink
    List(InSink),
    /// Remove backups that are kept no longer; never the newest, nor the newest that was proven
    Prune(Prune),
}

/// Where backups are.
#[derive(Debug, Args)]
pub struct InSink {
    /// Where the backups are: dir:PATH or s3://BUCKET/PREFIX
    #[arg(long, value_name = "SINK", value_parser = sink)]
    sink: Sink,
}

/// What to make.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    into: InSink,
    /// An age recipient (age1...) that can open it, beside this machine; may be repeated
    #[arg(long, value_name = "RECIPIENT", conflicts_with_all = ["passphrase_file", "without_keys"])]
    encrypt_to: Vec<String>,
    /// File of a passphrase that opens it; line ends at its end are left out
    #[arg(long, value_name = "FILE", conflicts_with = "without_keys")]
    passphrase_file: Option<PathBuf>,
    /// Do not encrypt it, and leave out the key that opens its secrets: it can be restored only
    /// beside this machine's machine.key
    #[arg(long)]
    without_keys: bool,
    /// Only what came since this backup of the sink, by its name or sequence number; `last` is
    /// the newest
    #[arg(long, value_name = "BACKUP")]
    since: Option<String>,
}

/// What opens a backup.
#[derive(Debug, Args)]
pub struct Opens {
    /// File of the passphrase that opens it
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File of age identities (AGE-SECRET-KEY-1...) that open it
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// What to look at.
#[derive(Debug, Args)]
pub struct Verify {
    /// The backup: a file, or SINK/NAME
    backup: Place,
    #[command(flatten)]
    opens: Opens,
    /// Restore it into a scratch store: build its indexes, follow its audit log, open its key
    /// ring and sign with every CA key
    #[arg(long)]
    restore: bool,
    /// Directory for the scratch store [default: the data directory]
    #[arg(long, value_name = "DIR", requires = "restore")]
    scratch: Option<PathBuf>,
    /// What an increment follows, with which it is restored [default: the newest full backup
    /// before it in its sink, or in that of CERTCTL_BACKUP_SINK]
    #[arg(long, value_name = "BACKUP", requires = "restore")]
    base: Option<Place>,
}

/// How many to keep.
#[derive(Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    of: InSink,
    /// The last of each of so many days
    #[arg(long, value_name = "N", default_value_t = 7)]
    keep_daily: usize,
    /// The last of each of so many weeks
    #[arg(long, value_name = "N", default_value_t = 5)]
    keep_weekly: usize,
    /// The last of each of so many months
    #[arg(long, value_name = "N", default_value_t = 12)]
    keep_monthly: usize,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Reads a sink. The server has another working directory.
pub fn sink(text: &str) -> Result<Sink, String> {
    match text.strip_prefix("dir:") {
        Some(path) if !path.is_empty() => {
            let path = std::path::absolute(path).map_err(|e| format!("{path}: {e}"))?;
            Ok(Sink::Dir(path))
        }
        _ => text.parse(),
    }
}

impl Opens {
    /// Reads the files.
    pub fn keys(&self) -> Result<Keys, CliError> {
        let mut keys = Keys::default();
        if let Some(path) = &self.passphrase_file {
            keys = keys.passphrase(read_passphrase(path)?);
        }
        if let Some(path) = &self.identity {
            let text = host::read_secret(path)?;
            let bad = |e| CliError::Failed(format!("{}: {e}", path.display()));
            keys = keys.identities(&text).map_err(bad)?;
        }
        Ok(keys)
    }
}

/// Reads the file of a passphrase. Nothing is none: it would open the backup for everybody.
fn read_passphrase(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let passphrase = host::read_secret(path)?;
    if passphrase.is_empty() {
        let path = path.display();
        return Err(CliError::Failed(format!(
            "{path} holds no passphrase: write one into it, on one line"
        )));
    }
    Ok(passphrase)
}

/// The settings of the server of this machine.
pub fn settings(global: &Global, env: &Environment) -> Result<ServerConfig, CliError> {
    let flags = Flags {
        data_dir: global.data_dir.clone(),
        ..Flags::default()
    };
    Ok(config::server_at_rest(env, flags)?.0)
}

/// Runs it.
pub async fn run(command: Backups, global: &Global, env: &Environment) -> Result<(), CliError> {
    let machine = Machine::this(settings(global, env)?)?;
    match command {
        Backups::Create(command) => create(command, &machine, global, env).await,
        Backups::Verify(command) => verify(command, &machine, global.output).await,
        Backups::List(InSink { sink }) => list(machine.list(&sink).await?, global.output),
        Backups::Prune(command) => prune(command, &machine, global.output).await,
    }
}

async fn create(
    command: Create,
    machine: &Machine,
    global: &Global,
    env: &Environment,
) -> Result<(), CliError> {
    let passphrase = command.passphrase_file.as_deref();
    let passphrase = passphrase.map(read_passphrase).transpose()?;
    if passphrase.is_none() && command.encrypt_to.is_empty() && !command.without_keys {
        return Err(CliError::Usage(
            "a backup holds every secret: say who can open it, by --encrypt-to or \
             --passphrase-file, or leave the key out of it by --without-keys"
                .into(),
        ));
    }
    let sink = command.into.sink;
    let since = match &command.since {
        Some(named) => Some(named_in(machine, &sink, named).await?),
        None => None,
    };
    let client = Client::new(global, env)?;
    let wanted = NewBackup {
        sink: sink.to_string(),
        encrypt_to: command.encrypt_to.clone(),
        passphrase: passphrase.as_ref().map(|text| text.to_string()),
        without_keys: command.without_keys,
        since: since.map(|since| Seq(since.seq)),
        since_audit_entries: since.map(|since| since.audit_entries),
    };
    let bar = follow::spinner("making the backup", global.output);
    let named = global.named_server(env).is_some();
    let backup = match client.post::<BackupRunShape>("/backups", &wanted).await {
        Ok(run) => by_server(&client, &run, &bar).await,
        // Nobody has the store open, then.
        Err(CliError::Unreachable(_)) if !named => {
            let locking = locking(&command.encrypt_to, passphrase)?;
            let tell = &mut |done| bar.set_message(format!("making the backup: {done}"));
            let made = machine.create(&sink, &locking, since, tell).await;
            made.map(BackupShape::from).map_err(CliError::from)
        }
        Err(e) => Err(e),
    };
    bar.finish_and_clear();
    let backup = backup?;
    if global.output == Output::Json {
        return output::json(&backup);
    }
    output::line(&format!(
        "{sink}/{}: {}, {} rows, {} audit events",
        backup.name,
        size(backup.bytes),
        backup.rows.unwrap_or(0),
        backup.audit_entries
    ));
    if command.without_keys {
        output::line(
            "It holds no key: keep machine.key elsewhere, without it no CA key comes back.",
        );
    }
    Ok(())
}

fn locking(
    recipients: &[String],
    passphrase: Option<Zeroizing<String>>,
) -> Result<Locking, CliError> {
    if let Some(passphrase) = passphrase {
        return Ok(Locking::Passphrase(passphrase));
    }
    if recipients.is_empty() {
        return Ok(Locking::WithoutKeys);
    }
    let recipients = recipients.iter().map(|text| text.parse());
    let recipients = recipients.collect::<Result<_, _>>();
    let recipients = recipients.map_err(|e| CliError::Usage(format!("--encrypt-to: {e}")))?;
    Ok(Locking::Recipients(recipients))
}

/// Waits for this backup of the server's to end.
async fn by_server(
    client: &Client,
    begun: &BackupRunShape,
    bar: &indicatif::ProgressBar,
) -> Result<BackupShape, CliError> {
    loop {
        let state: BackupStateShape = client.get("/backups").await?;
        if let Some(ended) = state.ended.into_iter().find(|ended| ended.id == begun.id) {
            return match (ended.backup, ended.failed_step, ended.error) {
                (Some(backup), ..) => Ok(backup),
                (None, step, error) => Err(CliError::of_step(
                    &step.unwrap_or_default(),
                    error.unwrap_or_else(|| "no backup was made".into()),
                )),
            };
        }
        let Some(run) = state.run.filter(|run| run.id == begun.id) else {
            return Err(CliError::Failed(format!(
                "the server that answers does not know the backup {}: it was restarted, or is \
                 another one than was asked first; `certctl backup list --sink {}` shows whether \
                 the backup was made",
                begun.id, begun.sink
            )));
        };
        bar.set_message(format!("the server makes the backup: {}", run.done));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What an increment follows: a backup of the sink.
async fn named_in(machine: &Machine, sink: &Sink, named: &str) -> Result<Since, CliError> {
    let all = machine.list(sink).await?;
    let mut newest_first = all.iter().rev().filter(|stored| stored.counts());
    let found = match named {
        "last" => newest_first.next(),
        named => newest_first.find(|s| s.name == named || s.seq.to_string() == named),
    };
    let found = found.ok_or_else(|| {
        CliError::Failed(format!(
            "{sink} holds no backup {named}: `certctl backup list` shows what it holds"
        ))
    })?;
    Ok(Since {
        seq: found.seq,
        audit_entries: found.audit_entries,
    })
}

async fn verify(command: Verify, machine: &Machine, output: Output) -> Result<(), CliError> {
    let keys = command.opens.keys()?;
    let place = command.backup.clone();
    let bar = follow::spinner("reading the backup", output);
    let tell = &mut |done: u64| {
        if done.is_multiple_of(1_000) {
            bar.set_message(format!("reading the backup: {done}"));
        }
    };
    let outcome = if command.restore {
        prove(&command, machine, keys, tell).await
    } else {
        read(&place, machine, keys, tell).await
    };
    bar.finish_and_clear();
    let (text, mut json) = outcome?;
    let mut warnings = Warnings::new(output);
    // A sink that cannot be written is no fault of the backup.
    if let Err(e) = machine.note(&place, command.restore).await {
        warnings.add(format!("this is not noted beside the backup: {e}"));
    }
    match output {
        Output::Json => {
            json["warnings"] = json!(warnings.all);
            output::json(&json)
        }
        Output::Table => {
            output::line(&text);
            Ok(())
        }
    }
}

/// Reads a backup; what that shows, for people and for programs.
async fn read(
    place: &Place,
    machine: &Machine,
    keys: Keys,
    tell: Progress<'_>,
) -> Result<(String, Value), BackupFailure> {
    let (header, ending) = machine.verify(place, keys, tell).await?;
    let text = format!(
        "{}: every byte is as it was written: {} rows, {} audit events; state of {}",
        place.name,
        ending.all_rows(),
        header.audit_entries,
        header.created_at.whole_seconds()
    );
    let proof = json!({
        "created_at": header.created_at.to_string(), "product": header.product,
        "seq": header.seq.to_string(), "rows": ending.all_rows(), "audit_entries": header.audit_entries,
        "ca_keys": null,
    });
    let mut json = seen_json(&place.name, None, proof);
    json["since"] = json!(header.since.map(|seq| seq.to_string()));
    json["rows"] = json!(ending.rows);
    json["with_keys"] = json!(header.machine_key.is_some());
    Ok((text, json))
}

/// Restores a backup into a scratch store, an increment with what it follows.
async fn prove(
    command: &Verify,
    machine: &Machine,
    keys: Keys,
    tell: Progress<'_>,
) -> Result<(String, Value), BackupFailure> {
    let place = &command.backup;
    let chain = machine.up_to(place, command.base.as_ref()).await?;
    let scratch = command.scratch.as_deref();
    let proof = machine.prove(&chain, keys, scratch, tell).await?;
    let (base, increments) = (&chain[0].name, chain.len() - 1);
    let of = match increments {
        0 => String::new(),
        n => format!(" upon {base}, number {n} after it"),
    };
    let rows = proof.rows.map_or(String::new(), |n| format!("{n} rows, "));
    let text = format!(
        "{}{of}: restored and good: {rows}{} audit events in an unbroken log, {} CA keys that sign",
        place.name, proof.audit_entries, proof.ca_keys
    );
    let json = seen_json(&place.name, Some((base, increments)), proof_json(&proof));
    Ok((text, json))
}

/// What was seen of a backup, for programs: by reading it, or by restoring it upon a base with so
/// many increments. A reading says nothing of the CA keys.
fn seen_json(name: &str, restored: Option<(&str, usize)>, proof: Value) -> Value {
    json!({
        "name": name, "restored": restored.is_some(), "base": restored.map(|(base, _)| base),
        "increments": restored.map(|(_, n)| n), "proof": proof,
    })
}

/// What a restore has shown, for programs.
pub fn proof_json(proof: &Proof) -> Value {
    json!({
        "created_at": proof.created_at.to_string(), "product": proof.product,
        "seq": proof.seq.to_string(),
        "rows": proof.rows, "audit_entries": proof.audit_entries, "ca_keys": proof.ca_keys,
    })
}

fn list(stored: Vec<Stored>, output: Output) -> Result<(), CliError> {
    let backups: Vec<BackupShape> = stored.into_iter().map(BackupShape::from).collect();
    if output == Output::Json {
        return output::json(&json!({ "data": backups }));
    }
    let doubts: Vec<String> = backups
        .iter()
        .filter_map(|backup| {
            let why = backup.unusable_because.as_ref()?;
            Some(format!("{} is not counted: {why}", backup.name))
        })
        .collect();
    let rows = backups.into_iter().map(|backup| {
        let proven = match (&backup.proven_at, backup.proven_by_restore) {
            _ if backup.unusable_because.is_some() => "unusable".to_owned(),
            (None, _) => "-".to_owned(),
            (at, true) => format!("restored {}", output::moment(at.as_deref())),
            (at, false) => format!("read {}", output::moment(at.as_deref())),
        };
        vec![
            backup.name,
            output::moment(Some(&backup.created_at)),
            String::from(backup.seq),
            size(backup.bytes),
            proven,
        ]
    });
    output::table(&["NAME", "STATE OF", "SEQUENCE", "SIZE", "PROVEN"], rows);
    for doubt in &doubts {
        output::warn(doubt);
    }
    Ok(())
}

async fn prune(command: Prune, machine: &Machine, output: Output) -> Result<(), CliError> {
    let sink = command.of.sink;
    let all = machine.list(&sink).await?;
    let keep = Keep {
        daily: command.keep_daily,
        weekly: command.keep_weekly,
        monthly: command.keep_monthly,
    };
    let gone = expired(&all, keep);
    if !command.dry_run {
        for stored in &gone {
            machine.remove(&sink, &stored.name).await?;
        }
    }
    let names: Vec<&str> = gone.iter().map(|stored| stored.name.as_str()).collect();
    if output == Output::Json {
        return output::json(&json!({
            "removed": names, "kept": all.len() - names.len(), "dry_run": command.dry_run,
        }));
    }
    for name in &names {
        output::line(name);
    }
    let verb = if command.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    output::line(&format!(
        "{} {verb}, {} kept",
        names.len(),
        all.len() - names.len()
    ));
    Ok(())
}
