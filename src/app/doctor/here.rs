//! The doctor on a machine where no server answers.

use super::{Ground, RESTORE, Reading, around, outside, within};
use crate::{
    app::{
        StartError,
        backup::{S3Access, STORE_FILE},
        database,
        start::{disk, has_lost_store},
    },
    clock::{Clock, SystemClock},
    config::{ConfigError, ServerConfig},
    domain::Finding,
    store::{Committer, Engine, EngineError, Postgres, Redb, Store},
    sys::{Disk, Files},
};
use std::{path::Path, sync::Arc, time::Duration};

/// What is wrong with the settings, each fault by itself.
pub fn faults_of_settings(e: &ConfigError) -> Vec<Finding> {
    let faults = e.0.iter().map(|fault| {
        let place = match &fault.file {
            Some(file) => format!("{} in {file}", fault.setting),
            None => fault.setting.clone(),
        };
        Finding::error(
            "settings",
            place,
            fault.message.clone(),
            "change it; `certctl config check` looks at the settings alone, `certctl config keys` \
             explains each",
        )
    });
    faults.collect()
}

/// Looks at what lies around the store alone: which store it is is not known.
pub fn examine_files(config: &ServerConfig) -> Vec<Finding> {
    let ground = Ground {
        config,
        files: &Disk,
        rooms: &Disk,
        s3: None,
        clock: &SystemClock,
        now: SystemClock.now(),
        thorough: false,
    };
    let mut findings = outside::files(&ground);
    findings.extend(outside::disk(&ground));
    findings.extend(outside::clock(&ground));
    findings
}

/// Looks at this machine's installation, which no server answers for, and at its store as far as
/// it can be read. Nothing is changed, also not what a crash left to be recovered.
pub async fn examine_machine(
    config: &ServerConfig,
    thorough: bool,
    reading: Reading<'_>,
) -> Vec<Finding> {
    let s3 = config.s3.as_ref().and_then(|s3| S3Access::new(s3).ok());
    let ground = Ground {
        config,
        files: &Disk,
        rooms: &Disk,
        s3: s3.as_ref(),
        clock: &SystemClock,
        now: SystemClock.now(),
        thorough,
    };
    let mut findings = Vec::new();
    around(&ground, &mut findings).await;
    let opened = match &config.database {
        Some(_) => of_database(config).await,
        None => of_file(&config.data_dir, thorough),
    };
    findings.extend(opened.said);
    if let Some(engine) = opened.engine {
        match Store::start(engine, Committer::Inline, Box::new(|_| {})) {
            Ok(store) => within(&ground, &store, reading, &mut findings).await,
            Err(e) => findings.push(Finding::error("storage", "", e.to_string(), RESTORE)),
        }
    }
    findings
}

/// A store that was opened, or why not.
#[derive(Default)]
struct Opened {
    engine: Option<Arc<dyn Engine>>,
    said: Vec<Finding>,
}

impl Opened {
    fn not(finding: Finding) -> Self {
        Self {
            engine: None,
            said: vec![finding],
        }
    }
}

fn of_file(dir: &Path, thorough: bool) -> Opened {
    let path = dir.join(STORE_FILE);
    let name = path.display().to_string();
    match Disk.metadata(&path) {
        Ok(_) if has_lost_store(dir).unwrap_or(false) => {
            let lost = StartError::StoreMissing(name.clone()).to_string();
            return Opened::not(Finding::error("storage", name, lost, RESTORE));
        }
        Ok(Some(_)) => {}
        Ok(None) => {
            return Opened::not(Finding::notice(
                "storage",
                name,
                "there is no store: the first start of the server makes it",
                "where there was one, `certctl restore BACKUP` brings it back",
            ));
        }
        Err(e) => {
            let remedy = "run this as root or as the server's user";
            return Opened::not(Finding::error("storage", name, e.to_string(), remedy));
        }
    }
    let mut store = match Redb::look(&path) {
        Ok(store) => store,
        Err(EngineError::InUse(_)) => {
            return Opened::not(Finding::error(
                "storage",
                name,
                "a server has it open and does not answer on its socket",
                "name the socket by --socket, or restart the server",
            ));
        }
        Err(e @ EngineError::Io(_)) => {
            let remedy = "see that the disk is sound and the file its user's, who runs this";
            return Opened::not(Finding::error("storage", name, e.to_string(), remedy));
        }
        Err(e) => return Opened::not(Finding::error("storage", name, e.to_string(), RESTORE)),
    };
    let mut said = Vec::new();
    if thorough {
        said.push(match store.verify_pages() {
            Ok(()) => Finding::ok("storage", "every page is as it was written"),
            Err(e) => Finding::error("storage", &name, e.to_string(), RESTORE),
        });
        // What was repaired or could not be is not looked at further: redb may not bear it.
        if said.iter().any(|f| !f.remedy.is_empty()) {
            drop(store);
            match Redb::look(&path) {
                Ok(again) => store = again,
                Err(_) => return Opened { engine: None, said },
            }
        }
    }
    Opened {
        engine: Some(Arc::new(store)),
        said,
    }
}

async fn of_database(config: &ServerConfig) -> Opened {
    let Some(database) = &config.database else {
        return Opened::default();
    };
    let opened = async {
        let login = database::login(database, &disk())?;
        Ok::<_, StartError>(Postgres::find(login, Duration::ZERO).await?)
    };
    match opened.await {
        Ok(engine) => Opened {
            engine: Some(Arc::new(engine)),
            said: Vec::new(),
        },
        Err(StartError::Engine(EngineError::NoStore(_))) => Opened::not(Finding::notice(
            "storage",
            &database.name,
            "the database holds no store: the first start of the server makes it",
            "where there was one, `certctl restore BACKUP` brings it back",
        )),
        Err(StartError::Engine(
            e @ (EngineError::HalfLoaded | EngineError::Corrupt(_) | EngineError::Format { .. }),
        )) => Opened::not(Finding::error(
            "storage",
            &database.name,
            e.to_string(),
            RESTORE,
        )),
        // That it is away, or takes no login, was said.
        Err(_) => Opened::default(),
    }
}
