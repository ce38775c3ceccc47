//! The whole product in simulated time: a server, three agents and the network between them on one
//! thread, from one seed. The same seed gives the same events, to the byte.
//!
//! A month is thirty days by the clock. Of each idle hour the machines sleep over all but some
//! minutes, as suspended machines do: the clock is set forward and no timer runs. While anything
//! is under way, every minute is lived.

mod agents;
mod chance;
mod checks;
mod faults;
mod files;
mod host;
mod machine;
mod network;
mod nginx;
mod operator;
mod server;
mod trace;
mod world;

use crate::support::DAY;
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};
use trace::{SimClock, Trace};
use world::Report;

/// Runs a story on a paused clock; one that fails shows its seed and its last events.
fn simulate<T>(seed: u64, story: impl AsyncFnOnce(Trace, SimClock) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let (clock, trace) = {
        let _inside = runtime.enter();
        let clock = SimClock::start();
        (clock.clone(), Trace::new(clock.clone()))
    };
    let log = trace.take_log();
    let story = AssertUnwindSafe(|| runtime.block_on(story(trace.clone(), clock)));
    let result = catch_unwind(story);
    drop(log);
    result.unwrap_or_else(|panic| {
        eprintln!("seed {seed}; the last events:\n{}", trace.last());
        resume_unwind(panic)
    })
}

/// A month from a seed, twice at once.
fn month(seed: u64) -> Report {
    let run = || {
        simulate(seed, async |trace, clock| {
            world::live(seed, 30 * DAY, trace, clock).await
        })
    };
    let (report, again) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().unwrap())
    });
    assert_eq!(report, again, "seed {seed} gives one thing and another");
    for (line, versions) in &report.versions {
        assert!(*versions >= 4, "{line} was not renewed: {report:?}");
    }
    report
}

/// The seeds looked at: two, or as many as `CERTCTL_TEST_SEEDS` says.
fn seeds() -> u64 {
    std::env::var("CERTCTL_TEST_SEEDS").map_or(2, |n| n.parse().unwrap())
}

/// Whether time does not matter and rare faults are looked for.
fn thorough() -> bool {
    seeds() > 2
}

#[test]
fn a_month_with_a_death_of_each() {
    let hashes: BTreeSet<String> = (1..=seeds()).map(|seed| month(seed).hash).collect();
    assert_eq!(hashes.len() as u64, seeds(), "each seed has its own events");
}
