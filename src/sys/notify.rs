//! Words to the service manager (`sd_notify(3)`). Without one (no `NOTIFY_SOCKET`) they do nothing,
//! and a failure to say them is logged, never fatal.

use sd_notify::NotifyState;
use std::time::Duration;

/// The service is up.
pub fn ready() {
    send(NotifyState::Ready);
}

/// The service goes down.
pub fn stopping() {
    send(NotifyState::Stopping);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(NotifyState::Status(text));
}

/// A long step goes on: the service manager waits this much longer before it gives up.
pub fn extend_timeout(by: Duration) {
    send(NotifyState::ExtendTimeoutUsec(
        u32::try_from(by.as_micros()).unwrap_or(u32::MAX),
    ));
}

/// The service is alive.
pub fn watchdog() {
    send(NotifyState::Watchdog);
}

/// How often to call [`watchdog`]: half the time the unit file allows (`WatchdogSec=`). `None`
/// where no watchdog is asked for.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

fn send(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot reach the service manager");
    }
}
