//! Signals reach those who wait for them.

use certctl::sys::{Hangup, Terminate};
use nix::sys::signal::{Signal, raise};

#[tokio::test]
async fn both_ways_to_end_are_heard_and_named() {
    let mut terminate = Terminate::new().unwrap();
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        raise(signal).unwrap();
        assert_eq!(terminate.recv().await, name);
    }
}

#[tokio::test]
async fn hangups_are_heard_each_time() {
    let mut hangup = Hangup::new().unwrap();
    for _ in 0..2 {
        raise(Signal::SIGHUP).unwrap();
        hangup.recv().await;
    }
}
