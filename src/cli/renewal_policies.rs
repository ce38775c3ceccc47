//! `certctl renewal-policies`.

use super::{
    CliError, Global,
    client::Client,
    documents::{self, Kind, seconds, span},
    output,
};
use crate::{
    api::shapes::{RenewalPolicyShape, RenewalPolicyWish},
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};

/// List, show, make, edit and delete renewal policies: when to renew.
#[derive(Debug, Subcommand)]
pub enum RenewalPolicies {
    /// List renewal policies
    List,
    /// Show a renewal policy
    Show {
        /// The policy's id
        policy: Id,
    },
    /// Make a renewal policy
    Create {
        /// Its id; made when absent
        #[arg(long)]
        id: Option<Id>,
        /// Its name
        #[arg(long)]
        name: String,
        #[command(flatten)]
        says: Says,
    },
    /// Edit a renewal policy; what no flag names stays as it is. Its certificates are planned anew
    Edit {
        /// The policy's id
        policy: Id,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        says: Says,
    },
    /// Delete a renewal policy that no certificate has
    Delete {
        /// The policy's id
        policy: Id,
    },
}

/// What a renewal policy says.
#[derive(Debug, Args)]
pub struct Says {
    /// Renew when so many days are left, but never before half the lifetime is over; 0: the
    /// fraction alone decides
    #[arg(long, value_name = "DAYS")]
    window: Option<u32>,
    /// Renew when so many thousandths of the lifetime are left
    #[arg(long, value_name = "PERMILLE")]
    left: Option<u32>,
    /// Whether versions are renewed without somebody's asking
    #[arg(long, value_name = "BOOL")]
    auto_renew: Option<bool>,
    /// So many attempts in a row wait the interval each; then the waits double, to a day
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// How long after a failed attempt the next one is due, e.g. 30m
    #[arg(long, value_name = "TIME", value_parser = interval)]
    retry_interval: Option<u32>,
    /// So many days before the end somebody is to be told, e.g. 30,14,7
    #[arg(long, value_name = "DAYS", value_delimiter = ',')]
    alert_days: Vec<u32>,
}

fn interval(text: &str) -> Result<u32, String> {
    u32::try_from(seconds(text)?).map_err(|_| format!("{text:?} is too long"))
}

impl Says {
    fn wish(self, id: Option<Id>, name: Option<String>) -> RenewalPolicyWish {
        RenewalPolicyWish {
            id: id.map(|id| id.to_string()),
            name,
            renewal_window_days: self.window,
            renew_left_permille: self.left,
            auto_renew: self.auto_renew,
            max_retries: self.retries,
            retry_interval_seconds: self.retry_interval,
            alert_thresholds_days: (!self.alert_days.is_empty()).then_some(self.alert_days),
            ..RenewalPolicyWish::default()
        }
    }
}

struct OfPolicy;

impl Kind for OfPolicy {
    type Shape = RenewalPolicyShape;
    const PATH: &'static str = "/renewal-policies";
    const MANY: &'static str = "renewal policies";
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "RENEWS", "WHEN LEFT", "RETRIES", "INTERVAL"];

    fn row(p: &RenewalPolicyShape) -> Vec<String> {
        vec![
            p.id.clone(),
            p.name.clone(),
            p.auto_renew.to_string(),
            left(p),
            p.max_retries.to_string(),
            span(p.retry_interval_seconds.into()),
        ]
    }

    fn facts(p: &RenewalPolicyShape) -> Vec<(&'static str, String)> {
        let days: Vec<String> = p.alert_thresholds_days.iter().map(u32::to_string).collect();
        let mut facts = vec![
            ("policy", p.id.clone()),
            ("name", p.name.clone()),
            ("renews", p.auto_renew.to_string()),
            ("when left", left(p)),
            ("retries", p.max_retries.to_string()),
            ("interval", span(p.retry_interval_seconds.into())),
            ("alert days", days.join(" ")),
            ("edited", output::moment(Some(&p.updated_at))),
        ];
        if let Some(replan) = &p.replan {
            facts.push(("replanned", format!("{} of {}", replan.done, replan.total)));
        }
        facts
    }
}

fn left(p: &RenewalPolicyShape) -> String {
    match p.renewal_window_days {
        0 => format!("{} thousandths", p.renew_left_permille),
        days => format!("{days} days"),
    }
}

/// Runs it.
pub async fn run(
    command: RenewalPolicies,
    global: &Global,
    env: &Environment,
) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        RenewalPolicies::List => documents::list::<OfPolicy>(&client, output).await,
        RenewalPolicies::Show { policy } => {
            documents::show::<OfPolicy>(&client, &policy, output).await
        }
        RenewalPolicies::Create { id, name, says } => {
            let wish = says.wish(id, Some(name));
            documents::create::<OfPolicy>(&client, &wish, output).await
        }
        RenewalPolicies::Edit { policy, name, says } => {
            let wish = says.wish(None, name);
            documents::edit::<OfPolicy>(&client, &policy, &wish, output).await
        }
        RenewalPolicies::Delete { policy } => {
            documents::delete::<OfPolicy>(&client, &policy, output).await
        }
    }
}
