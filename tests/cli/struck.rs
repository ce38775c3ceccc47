//! A restore whose k-th call to the disk fails, or is its last: what was there is there, or what is
//! to be, and the next restore clears what was left. By strace, which strikes the k-th call of each
//! thread.
//!
//! `CERTCTL_TEST_STRIDE` says how many calls are passed over between two that are struck (7).

use super::{
    home::Home,
    killed::{names, number, teams, with_teams},
    process::run,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The calls that change what a disk holds.
const CALLS: &str =
    "pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,mkdir,mkdirat";
/// There are fewer of them in a restore of a small store.
const MANY: u64 = 1_000;

/// A command under strace, which does this to its calls and writes down what it did.
fn struck(command: &Command, inject: &str, log: &Path) -> Command {
    let mut struck = Command::new("strace");
    struck
        .env_clear()
        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .args(["-f", "-qq", "-o"])
        .arg(log)
        .args(["-e", &format!("trace={CALLS}")])
        .args(["-e", &format!("inject={CALLS}:{inject}")])
        .arg(command.get_program())
        .args(command.get_args());
    struck
}

/// Restores with the k-th call struck, for each k up to where there is none.
async fn sweep(inject: impl Fn(u64) -> String, hit: &str) {
    let home = Home::new();
    let small = with_teams(&home, &[], 0, 3).await;
    let large = with_teams(&home, &[], 3, 8).await;
    let (file, log) = (home.path("certctl.redb"), home.beside("strace"));
    let restore = |place: &PathBuf| home.command(&format!("restore {} --yes", place.display()));
    let stride = number("CERTCTL_TEST_STRIDE", 7);
    let (mut strikes, mut failed, mut whole) = (0, 0, false);
    for k in (1..MANY).step_by(usize::try_from(stride).unwrap()) {
        let before = teams(&file).await;
        let (wanted, place) = [(3, &small), (8, &large)][usize::from(before == 3)];
        let ended = run(&mut struck(&restore(place), &inject(k), &log));
        if !fs::read_to_string(&log).unwrap().contains(hit) {
            assert!(ended.status.success(), "{ended:?}");
            assert!(strikes > 5, "{strikes} were struck");
            assert!(failed > 5, "{failed} of {strikes} did not succeed");
            whole = true;
            break;
        }
        strikes += 1;
        failed += u64::from(!ended.status.success());
        assert!(!ended.stderr.contains("panicked"), "call {k}: {ended:?}");
        let there = teams(&file).await;
        let may_be: &[usize] = match ended.status.success() {
            true => &[wanted],
            false => &[before, wanted],
        };
        assert!(may_be.contains(&there), "call {k}: {there}; {ended:?}");
        run(&mut restore(place)).good();
        assert_eq!(teams(&file).await, wanted, "after call {k}");
        for left in names(&home.data()) {
            assert!(!left.contains("scratch"), "call {k} leaves {left}");
            if left.starts_with("pre-restore") {
                fs::remove_dir_all(home.path(&left)).unwrap();
            }
        }
    }
    assert!(whole, "a restore makes more than {MANY} calls");
    let _server = home.server();
    let total = home.api().get("/teams").await["total"].clone();
    assert!(total == 3 || total == 8, "{total}");
    home.run("restore unfence").good();
    home.run("audit verify").good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_kth_call_to_the_disk_fails() {
    sweep(|k| format!("error=EIO:when={k}"), "(INJECTED)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_its_kth_call_to_the_disk() {
    sweep(|k| format!("signal=KILL:when={k}"), "killed by SIGKILL").await;
}
