//! The engine on PostgreSQL, on a cluster whose texts are sorted as people sort them.

use super::{
    conformance::conformance,
    indexing::changes_with_the_program,
    lists::lists_conform,
    model::{play, steps},
    run,
};
use crate::support::postgres::Cluster;
use proptest::{collection::vec, prelude::*};
use std::sync::Arc;

#[test]
fn postgres_conforms() {
    run(async {
        let database = Cluster::shared().database();
        conformance(&database.open().await).await;
    });
}

#[test]
fn lists_on_postgres() {
    run(async {
        let database = Cluster::shared().database();
        lists_conform(Arc::new(database.open().await)).await;
    });
}

#[test]
fn indexes_on_postgres_follow_the_program() {
    run(async {
        let database = Cluster::shared().database();
        changes_with_the_program(Arc::new(database.open().await)).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn postgres_and_memory_agree(groups in vec(vec(steps(), 1..5), 1..12)) {
        run(async {
            let database = Cluster::shared().database();
            play(groups, &database.open().await).await
        })?;
    }
}
