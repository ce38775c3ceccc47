//! When certificates are renewed, how attempts are repeated, and whom to tell of an end.

use super::Fault;
use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// When to renew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalPolicy {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// Whether versions are renewed when they are due. Without it they are renewed when somebody
    /// asks, and never else.
    #[serde(default = "yes")]
    pub auto_renew: bool,
    /// Renew when this many thousandths of the lifetime are left.
    pub renew_left_permille: u32,
    /// Renew when this many days are left, though never before half the lifetime is over;
    /// 0 leaves the fraction alone to decide.
    pub renewal_window_days: u32,
    /// So many attempts in a row wait [`retry_interval_seconds`](Self::retry_interval_seconds)
    /// each; then the waits double, to a day at most. A renewal is never given up.
    #[serde(default)]
    pub max_retries: u32,
    /// How long after a failed attempt the next one is due, at least, in seconds.
    #[serde(default = "a_minute")]
    pub retry_interval_seconds: u32,
    /// So many days before the end somebody is to be told. Kept for whoever alerts; nothing here
    /// acts on it, nor on the three that follow.
    #[serde(default = "thresholds")]
    pub alert_thresholds_days: Vec<u32>,
    /// Where alerts of a tier go.
    #[serde(default)]
    pub alert_channels: BTreeMap<Tier, Vec<Channel>>,
    /// The tier of each threshold.
    #[serde(default)]
    pub alert_severity_map: BTreeMap<u32, Tier>,
    /// The profile it was made for.
    #[serde(default)]
    pub profile_id: Option<Id>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

/// How pressing an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Good to know.
    Informational,
    /// To be seen to.
    Warning,
    /// To be seen to now.
    Critical,
}

/// A way to tell people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Channel {
    /// E-mail.
    Email,
    /// An HTTP call.
    Webhook,
    /// Slack.
    Slack,
    /// Microsoft Teams.
    Teams,
    /// PagerDuty.
    PagerDuty,
    /// OpsGenie.
    OpsGenie,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::Informational, Self::Warning, Self::Critical];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 6] = [
        Self::Email,
        Self::Webhook,
        Self::Slack,
        Self::Teams,
        Self::PagerDuty,
        Self::OpsGenie,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "Email",
            Self::Webhook => "Webhook",
            Self::Slack => "Slack",
            Self::Teams => "Teams",
            Self::PagerDuty => "PagerDuty",
            Self::OpsGenie => "OpsGenie",
        }
    }
}

fn yes() -> bool {
    true
}

fn a_minute() -> u32 {
    60
}

fn thresholds() -> Vec<u32> {
    vec![30, 14, 7, 0]
}

impl RenewalPolicy {
    /// One that renews when a third of the lifetime is left.
    pub fn new(id: Id, now: Time) -> Self {
        Self {
            id,
            name: String::new(),
            auto_renew: true,
            renew_left_permille: 333,
            renewal_window_days: 0,
            max_retries: 0,
            retry_interval_seconds: 3_600,
            alert_thresholds_days: thresholds(),
            alert_channels: BTreeMap::new(),
            alert_severity_map: BTreeMap::new(),
            profile_id: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// How attempts are repeated.
    pub fn retry(&self) -> Retry {
        Retry {
            interval: Duration::from_secs(u64::from(self.retry_interval_seconds)),
            steady: self.max_retries,
        }
    }

    /// Whether its numbers are within bounds.
    ///
    /// # Errors
    /// The first field at fault.
    pub fn check(&self) -> Result<(), Fault> {
        let within = |field, n: u32, least: u32, most: u32| {
            if (least..=most).contains(&n) {
                return Ok(());
            }
            Err(Fault::new(field, format!("{n} is not {least} to {most}")))
        };
        within("renew_left_permille", self.renew_left_permille, 1, 900)?;
        within("renewal_window_days", self.renewal_window_days, 0, 365)?;
        within("max_retries", self.max_retries, 0, 10)?;
        let retry = self.retry_interval_seconds;
        within("retry_interval_seconds", retry, 60, 86_400)?;
        if self.alert_thresholds_days.len() > 32 {
            let message = "32 thresholds at most";
            return Err(Fault::new("alert_thresholds_days", message));
        }
        for days in &self.alert_thresholds_days {
            within("alert_thresholds_days", *days, 0, 365)?;
        }
        for days in self.alert_severity_map.keys() {
            within("alert_severity_map", *days, 0, 365)?;
        }
        Ok(())
    }
}

/// How attempts are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// After the first failure, and after each of the [steady](Self::steady) ones.
    pub interval: Duration,
    /// So many waits are of one length before they double.
    pub steady: u32,
}

impl Default for Retry {
    /// A minute, doubling.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            steady: 0,
        }
    }
}

impl Retry {
    /// How long to wait after this attempt, the first being 1, when the interval is `floor` at
    /// least: a day at most.
    pub fn after(self, attempt: u32, floor: Duration) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        let doublings = attempt.saturating_sub(self.steady.max(1)).min(16);
        let wait = self.interval.max(floor).saturating_mul(1 << doublings);
        wait.min(DAY)
    }
}
