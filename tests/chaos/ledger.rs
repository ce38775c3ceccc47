//! What the server has acknowledged, and whether it keeps its word.

use super::fleet::{Fleet, Place, named};
use crate::{
    cli::home::{Api, Home},
    support::invariants,
};
use certctl::{
    domain::{Certificate, Job, Order, Target},
    store::{Committer, Document, Redb, Store},
};
use serde_json::Value;
use std::{collections::BTreeSet, fs, sync::Arc};

/// What was answered with success.
#[derive(Clone, Default)]
pub struct Ledger {
    pub targets: BTreeSet<String>,
    /// By their numbers.
    pub certificates: BTreeSet<usize>,
    pub orders: BTreeSet<String>,
    /// Of deployments that were asked for.
    pub jobs: BTreeSet<String>,
}

impl Ledger {
    /// The store that a dead server left is undamaged, holds everything acknowledged, and what must
    /// always hold of it does. A copy is looked at: the next server finds the file as it was left.
    pub async fn check(&self, home: &Home) {
        let copy = home.beside("store.copy");
        fs::copy(home.path("certctl.redb"), &copy).unwrap();
        let mut file = redb::Database::open(&copy).unwrap();
        assert!(file.check_integrity().unwrap(), "the store was damaged");
        drop(file);
        let engine = Arc::new(Redb::open(&copy).unwrap());
        let store = Store::start(engine, Committer::Inline, Box::new(|_| ())).unwrap();
        for id in &self.targets {
            there::<Target>(&store, id).await;
        }
        for number in &self.certificates {
            there::<Certificate>(&store, &named(*number)).await;
        }
        for id in &self.orders {
            there::<Order>(&store, id).await;
        }
        for id in &self.jobs {
            there::<Job>(&store, id).await;
        }
        invariants::check(&store).await;
    }

    /// All is done: each certificate is active, and each of its places serves the version that is
    /// current at its agent, whole, with its key on the host.
    pub async fn check_settled(&self, fleet: &Fleet) {
        let api = fleet.home.api();
        let all = all(&api).await;
        assert_eq!(all.len(), self.certificates.len());
        for number in &self.certificates {
            let id = named(*number);
            let certificate = all.iter().find(|c| c["id"] == *id).unwrap();
            assert_eq!(certificate["status"], "Active", "{certificate}");
            let deployments = deployments(&api, &id).await;
            for place in Place::all(*number) {
                let agent = &fleet.agents[place.agent];
                let mut holders = certificate["holders"].as_array().unwrap().iter();
                let holder = holders.find(|h| h["holder"].as_str().unwrap().ends_with(agent));
                let current = &holder.unwrap()["serial_number"];
                let target = deployments.iter().find(|d| d["id"] == *place.to_string());
                let deployment = &target.unwrap()["deployment"];
                assert_eq!(deployment["state"], "confirmed", "{deployment}");
                assert_eq!(&deployment["serial_number"], current);
                let served = fleet.serves(place).await;
                assert_eq!(served.leaf().serial().to_string(), *current, "{place}");
            }
        }
    }
}

async fn there<T: Document>(store: &Store, id: &str) {
    let row = store.get::<T>(&id.parse().unwrap()).await.unwrap();
    assert!(
        row.is_some(),
        "{} {id} was acknowledged and is lost",
        T::COLL.0
    );
}

/// Every certificate.
pub async fn all(api: &Api) -> Vec<Value> {
    let mut list = api.get("/certificates?per_page=500").await;
    let Value::Array(rows) = list["data"].take() else {
        panic!("{list}");
    };
    assert_eq!(list["total"], rows.len());
    rows
}

/// A certificate's targets with their newest deployments.
pub async fn deployments(api: &Api, id: &str) -> Vec<Value> {
    let mut list = api.get(&format!("/certificates/{id}/deployments")).await;
    let Value::Array(rows) = list["data"].take() else {
        panic!("{list}");
    };
    rows
}
