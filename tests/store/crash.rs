//! The power goes: after every commit, and at every sync within one.

use super::{
    Ask,
    disk::{LosingDisk, Loss},
    model::{ROWS, Step, state, steps},
    run,
};
use async_trait::async_trait;
use certctl::store::{
    Answer, Batch, Engine, EngineError, Load, Memory, Outcome, Query, Redb, Snapshot,
};
use proptest::{collection::vec, prelude::*};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};
use tokio::time::Instant;

/// An engine whose machine loses its power after every commit; what was not synced is torn.
pub struct Crashing {
    seed: AtomicU64,
    now: Mutex<(LosingDisk, Arc<Redb>)>,
    /// A machine that has snapshots of the past does not lose them: only what follows is torn.
    looked_at: Mutex<Vec<Arc<Redb>>>,
}

impl Crashing {
    /// A new store.
    pub fn new() -> Self {
        let disk = LosingDisk::default();
        let redb = Redb::open_on(disk.clone()).unwrap();
        Self {
            seed: AtomicU64::new(1),
            now: Mutex::new((disk, redb.into())),
            looked_at: Mutex::default(),
        }
    }

    fn engine(&self) -> Arc<Redb> {
        self.now.lock().unwrap().1.clone()
    }
}

#[async_trait]
impl Engine for Crashing {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        self.engine().read(questions).await
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        let outcomes = self.engine().commit(group).await?;
        let mut now = self.now.lock().unwrap();
        let seed = self.seed.fetch_add(0x9e37_79b9, Ordering::Relaxed);
        let disk = LosingDisk::found(now.0.lose_power(Loss::Torn(seed)));
        let redb = Redb::open_on(disk.clone())?;
        *now = (disk, redb.into());
        Ok(outcomes)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        let engine = self.engine();
        self.looked_at.lock().unwrap().push(engine.clone());
        engine.snapshot(deadline).await
    }

    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.engine().load(part).await
    }
}

#[test]
fn redb_that_loses_power_after_each_commit_conforms() {
    run(super::conformance::conformance(&Crashing::new()));
}

/// Plays groups; at each sync of each commit the power goes in three ways, and what is found is
/// the state before the group or the one after it.
async fn play(groups: Vec<Vec<Step>>) -> Result<(), TestCaseError> {
    let memory = Memory::new();
    let disk = LosingDisk::default();
    let redb = Redb::open_on(disk.clone()).unwrap();
    let mut before = state(&memory).await;
    let mut seq = 1 << 40;
    for (n, steps) in groups.into_iter().enumerate() {
        let mut now = vec![];
        for row in ROWS {
            now.push(Ask(&memory).row(super::model::C, row).await);
        }
        let group: Vec<_> = steps.iter().map(|step| step.batch(&now, seq)).collect();
        let seed = n as u64 * 7919;
        disk.watch(vec![
            Loss::All,
            Loss::None,
            Loss::Torn(seed),
            Loss::Torn(seed + 2),
        ]);
        let outcomes = Ask(&memory).group(&group).await;
        prop_assert_eq!(&Ask(&redb).group(&group).await, &outcomes);
        seq += outcomes
            .iter()
            .filter(|o| matches!(o, Outcome::Committed(_)))
            .count() as u64;
        let after = state(&memory).await;
        for image in disk.images() {
            let found = Redb::open_on(LosingDisk::found(image)).unwrap();
            let found = state(&found).await;
            prop_assert!(
                found == before || found == after,
                "a group shows whole or not at all"
            );
        }
        let acknowledged = Redb::open_on(LosingDisk::found(disk.lose_power(Loss::All))).unwrap();
        prop_assert_eq!(&state(&acknowledged).await, &after);
        before = after;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]
    #[test]
    fn a_power_loss_at_any_sync_leaves_whole_groups(groups in vec(vec(steps(), 1..4), 1..8)) {
        run(play(groups))?;
    }
}
