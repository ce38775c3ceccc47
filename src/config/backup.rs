//! The settings of backups, each read beside those that it goes with.

use super::{
    environment::Environment,
    fault::Fault,
    schedule::{Schedule, interval, keep},
    settings::origins,
    sink::Sink,
};
use crate::crypt::Recipient;
use secrecy::SecretString;
use std::time::Duration;

const SCHEDULE: &str = "CERTCTL_BACKUP_SCHEDULE";
const SINK: &str = "CERTCTL_BACKUP_SINK";
const KEEP: &str = "CERTCTL_BACKUP_KEEP";
const ENCRYPT_TO: &str = "CERTCTL_BACKUP_ENCRYPT_TO";
const PASSPHRASE: &str = "CERTCTL_BACKUP_PASSPHRASE";
const JOURNAL_SINK: &str = "CERTCTL_BACKUP_JOURNAL_SINK";
const JOURNAL_EVERY: &str = "CERTCTL_BACKUP_JOURNAL_EVERY";
const S3_ENDPOINT: &str = "CERTCTL_BACKUP_S3_ENDPOINT";
const S3_REGION: &str = "CERTCTL_BACKUP_S3_REGION";
const S3_ID: &str = "CERTCTL_BACKUP_S3_ACCESS_KEY";
const S3_SECRET: &str = "CERTCTL_BACKUP_S3_SECRET_KEY";

/// Increments of a journal follow each other within this: the feed, by which they are made, forgets
/// what is older than an hour.
const LONGEST_JOURNAL: Duration = Duration::from_secs(900);

/// Backups that a server makes by itself.
#[derive(Debug, Clone)]
pub struct BackupConfig {
    /// When.
    pub schedule: Schedule,
    /// Where they go.
    pub sink: Sink,
    /// How many are kept: of days, weeks and months.
    pub keep: [usize; 3],
    /// Who can open them.
    pub opened_by: OpenedBy,
    /// What follows them within seconds.
    pub journal: Option<JournalConfig>,
}

/// Who can open backups, beside the machine that makes them.
#[derive(Debug, Clone)]
pub enum OpenedBy {
    /// Whoever knows it.
    Passphrase(SecretString),
    /// These.
    Recipients(Vec<Recipient>),
}

/// Increments that follow a server's backups.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Where they go.
    pub sink: Sink,
    /// How often one is made.
    pub every: Duration,
}

/// The way to S3, or to what speaks like it.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The address of the service.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Key id and secret; without them requests are not signed.
    pub keys: Option<(String, SecretString)>,
}

/// The backups that a server makes by itself; what is wrong is added to `faults`.
pub(super) fn backup(env: &Environment, faults: &mut Vec<Fault>) -> Option<BackupConfig> {
    let sink = sink(env, SINK, faults);
    let journal = sink_of_journal(env, faults);
    let opened_by = opened_by(env, faults);
    // What is wrong with a value by itself was said.
    let schedule = env.get(SCHEDULE)?.parse().ok()?;
    let keep = keep(env.or_default(KEEP)).ok()?;
    if env.get(SINK).is_none() {
        let why = format!("it goes with {SCHEDULE}: say where backups go");
        faults.push(env.at_fault(SINK, why));
    }
    // What is wrong with a value by itself was said, here too.
    let said = env.get(ENCRYPT_TO).is_some() || env.secret_file(PASSPHRASE).is_some();
    let of_passphrase = |fault: &Fault| fault.setting.starts_with(PASSPHRASE);
    if opened_by.is_none() && !said && !faults.iter().any(of_passphrase) {
        let why = format!(
            "backups hold every secret: either this or {PASSPHRASE} says who can open them"
        );
        faults.push(env.at_fault(ENCRYPT_TO, why));
    }
    Some(BackupConfig {
        schedule,
        sink: sink?,
        keep,
        opened_by: opened_by?,
        journal,
    })
}

/// Where something goes, and that there is a way to it.
fn sink(env: &Environment, setting: &'static str, faults: &mut Vec<Fault>) -> Option<Sink> {
    let read = env.get(setting)?.parse();
    if let Ok(Sink::S3 { .. }) = &read
        && env.get(S3_ENDPOINT).is_none()
    {
        let why = format!("it goes with {setting} in s3://: say the address of the service");
        faults.push(env.at_fault(S3_ENDPOINT, why));
    }
    read.map_err(|e| faults.push(env.at_fault(setting, e))).ok()
}

fn sink_of_journal(env: &Environment, faults: &mut Vec<Fault>) -> Option<JournalConfig> {
    let every = interval(env.or_default(JOURNAL_EVERY));
    if every.is_some_and(|every| every > LONGEST_JOURNAL) {
        let why = "15m at most: the store remembers for an hour what changed";
        faults.push(env.at_fault(JOURNAL_EVERY, why));
    }
    let sink = sink(env, JOURNAL_SINK, faults)?;
    if env.get(SCHEDULE).is_none() {
        let why = format!("increments follow backups: it goes with {SCHEDULE}");
        faults.push(env.at_fault(JOURNAL_SINK, why));
    }
    let every = every?;
    Some(JournalConfig { sink, every })
}

fn opened_by(env: &Environment, faults: &mut Vec<Fault>) -> Option<OpenedBy> {
    let passphrase = env.get(PASSPHRASE);
    if passphrase.is_none()
        && env.get(SCHEDULE).is_some()
        && let Some(file) = env.secret_file(PASSPHRASE)
    {
        let why = format!("{} is empty: write the passphrase there", file.display());
        faults.push(env.at_fault(PASSPHRASE, why));
    }
    let Some(recipients) = env.get(ENCRYPT_TO) else {
        return passphrase.map(|text| OpenedBy::Passphrase(text.to_owned().into()));
    };
    if passphrase.is_some() {
        let why = format!("{PASSPHRASE} is given, too: leave one of them out");
        faults.push(env.at_fault(ENCRYPT_TO, why));
    }
    let recipients = origins(recipients).into_iter().map(|text| text.parse());
    match recipients.collect::<Result<Vec<Recipient>, _>>() {
        Ok(recipients) if recipients.is_empty() => {
            faults.push(env.at_fault(ENCRYPT_TO, "age recipients (age1...) are expected"));
            None
        }
        Ok(recipients) => Some(OpenedBy::Recipients(recipients)),
        Err(e) => {
            faults.push(env.at_fault(ENCRYPT_TO, e.to_string()));
            None
        }
    }
}

/// The way to backups in S3, where one is configured; what is wrong is added to `faults`.
pub(super) fn s3(env: &Environment, faults: &mut Vec<Fault>) -> Option<S3Config> {
    let mut goes_with = |missing, given| {
        faults.push(env.at_fault(missing, format!("it goes with {given}")));
        None
    };
    let keys = match (env.get(S3_ID), env.get(S3_SECRET)) {
        (Some(id), Some(secret)) => Some((id.to_owned(), secret.to_owned().into())),
        (None, None) => None,
        (Some(_), None) => goes_with(S3_SECRET, S3_ID),
        (None, Some(_)) => goes_with(S3_ID, S3_SECRET),
    };
    Some(S3Config {
        endpoint: env.get(S3_ENDPOINT)?.trim_end_matches('/').to_owned(),
        region: env.or_default(S3_REGION).to_owned(),
        keys,
    })
}
