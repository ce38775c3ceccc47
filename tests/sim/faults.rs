//! One certificate is issued, deployed to a file, a site and nginx, renewed and deployed again, with a
//! fault at the k-th step on disk: for each k until there is none to strike.

use super::{
    checks,
    machine::{Fault, Machine},
    network::{Acknowledged, Wire},
    operator::{Kind, Operator},
    simulate,
    trace::{SimClock, Trace},
    world::World,
};
use crate::support::{DAY, invariants};
use certctl::sys::TEMP_PREFIX;

/// Whose disk is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Server,
    Agent,
}

/// From when on steps are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// A certificate is asked for, issued and deployed.
    Issue,
    /// It is due, issued anew and deployed in place of the old one.
    Renew,
}

/// Tells the story with one fault. Whether it struck.
async fn told(
    (who, story, fault, k): (Who, Story, Fault, u64),
    trace: Trace,
    clock: SimClock,
) -> bool {
    let (world, operator) = World::open(k, &trace, &clock, None).await;
    world.network.calm(true);
    let host = world.host(&operator, "agent-1", None).await;
    let hosts = [host.clone()];
    let agent = world.enrolled("agent-1").await;
    let mut targets = Vec::new();
    for kind in [Kind::File, Kind::Site(9001)] {
        targets.push(operator.target("cert-1", &agent, kind).await);
    }
    host.nginx.calm(true);
    if who == Who::Agent {
        // Over what someone has made by hand, or where nothing is served yet.
        host.nginx.site("cert-1", 7000, k % 2 == 0);
        targets.push(operator.target("cert-1", &agent, Kind::Nginx(7000)).await);
    }

    if story == Story::Renew {
        operator.certificate("cert-1", &targets).await;
        world.settle(&hosts).await;
    }
    let machine = match who {
        Who::Server => world.server_machine(),
        Who::Agent => host.machine(),
    };
    machine.plan(k, fault);
    let versions = match story {
        Story::Issue => {
            operator.certificate("cert-1", &targets).await;
            1
        }
        Story::Renew => {
            clock.sleep_over(6 * DAY + DAY / 2);
            world.renewed("cert-1", 2).await;
            2
        }
    };
    let store = world.settle(&hosts).await;
    invariants::check(&store).await;
    let acknowledged: Vec<Acknowledged> = world.network.acknowledged();
    checks::kept(&store, &acknowledged).await;
    let held = checks::versions(&store).await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].1, versions, "one version for each cause");
    if who == Who::Agent {
        // What was confirmed is durable: nothing else survives, and it is served again.
        host.forget();
        world.settle(&hosts).await;
        // Whatever the fault left is cleared by this start and the next renewal.
        clock.sleep_over(6 * DAY + DAY / 2);
        world.renewed("cert-1", versions + 1).await;
        world.settle(&hosts).await;
        checks::tidy(&host);
    }
    world.tasks.abort_all();
    machine.struck()
}

/// Strikes step after step until there is none to strike: each when rare faults are looked for,
/// else one in three.
fn each_step(first: u64, struck: impl Fn(u64) -> bool) {
    let stride = if super::thorough() { 1 } else { 3 };
    let mut k = 1 + first % stride;
    while struck(k) {
        k += stride;
        assert!(k < 1000, "there is no end of steps");
    }
    assert!(k > 20, "{k} steps: the writes are not seen");
}

fn sweep(who: Who, story: Story, fault: Fault) {
    each_step(u64::from(fault == Fault::Error), |k| {
        let case = (who, story, fault, k);
        println!("{who:?} {story:?} {fault:?} at step {k}");
        simulate(k, async |trace, clock| told(case, trace, clock).await)
    });
}

#[test]
fn the_server_loses_its_power_while_it_issues() {
    sweep(Who::Server, Story::Issue, Fault::PowerLoss);
}

#[test]
fn the_server_loses_its_power_while_it_renews() {
    sweep(Who::Server, Story::Renew, Fault::PowerLoss);
}

#[test]
fn the_servers_disk_fails_while_it_issues() {
    sweep(Who::Server, Story::Issue, Fault::Error);
}

#[test]
fn the_servers_disk_fails_while_it_renews() {
    sweep(Who::Server, Story::Renew, Fault::Error);
}

#[test]
fn the_host_loses_its_power_while_it_deploys_a_first_version() {
    sweep(Who::Agent, Story::Issue, Fault::PowerLoss);
}

#[test]
fn the_host_loses_its_power_while_it_deploys_a_renewal() {
    sweep(Who::Agent, Story::Renew, Fault::PowerLoss);
}

#[test]
fn the_hosts_disk_fails_while_it_deploys_a_first_version() {
    sweep(Who::Agent, Story::Issue, Fault::Error);
}

#[test]
fn the_hosts_disk_fails_while_it_deploys_a_renewal() {
    sweep(Who::Agent, Story::Renew, Fault::Error);
}

/// A first start that is cut, and the start after it. Whether it was cut.
async fn begun(k: u64, trace: Trace, clock: SimClock) -> bool {
    let world = World::new(k, trace.clone(), clock);
    let server = &world.server;
    let cut = server.start_cut_at(k).await;
    let process = server.start(Machine::boot("server", &trace)).await;
    let process = process.expect("a start after a cut start");
    process.serve(&world.network);
    let shown = server.volume.text("/data/first-start.txt");
    let key = shown
        .lines()
        .find_map(|line| line.strip_prefix("admin key: "));
    let operator = Operator {
        wire: Wire {
            network: world.network.clone(),
            from: Machine::boot("operator", &trace),
        },
        key: key.expect("a key for the administrator").to_owned(),
    };
    world.network.calm(true);
    operator.join_token().await;
    for path in server.volume.paths() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with(TEMP_PREFIX), "{} stays", path.display());
    }
    server.end(&process, false);
    cut
}

#[test]
fn the_server_loses_its_power_while_it_starts_for_the_first_time() {
    each_step(0, |k| {
        simulate(k, async |trace, clock| begun(k, trace, clock).await)
    });
}
