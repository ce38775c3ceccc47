//! `certctl policies`.

use super::{
    CliError, Global, Output,
    client::Client,
    documents::{self, Kind},
    output, targets,
};
use crate::{
    api::shapes::{List, RuleShape, RuleWish, ViolationShape},
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};

/// List, show, make, edit and delete policy rules, and what breaks them. `renewal-policies` say
/// when to renew.
#[derive(Debug, Subcommand)]
pub enum Policies {
    /// List policy rules
    List,
    /// Show a policy rule
    Show {
        /// The rule's id
        rule: Id,
    },
    /// Make a policy rule
    Create {
        /// Its id; made when absent
        #[arg(long)]
        id: Option<Id>,
        /// Its name
        #[arg(long)]
        name: String,
        /// AllowedIssuers, AllowedDomains, RequiredMetadata, AllowedEnvironments, RenewalLeadTime or
        /// CertificateLifetime
        #[arg(long = "type", value_name = "TYPE")]
        kind: String,
        #[command(flatten)]
        says: Says,
    },
    /// Edit a policy rule; what no flag names stays as it is
    Edit {
        /// The rule's id
        rule: Id,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        says: Says,
    },
    /// Delete a policy rule
    Delete {
        /// The rule's id
        rule: Id,
    },
    /// List certificates that are not as a rule wants them
    Violations {
        /// The rule's id
        rule: Id,
    },
}

/// What a rule says.
#[derive(Debug, Args)]
pub struct Says {
    /// A field of its configuration as name=value, or a JSON object of several; repeatable. By type:
    /// allowed_issuer_ids, allowed_domains, required_keys, allowed, lead_time_days, max_days
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Warning: told; Error and Critical: the certificate is not made, edited or issued
    #[arg(long)]
    severity: Option<String>,
    /// Whether it is applied
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
}

impl Says {
    fn wish(
        self,
        id: Option<Id>,
        name: Option<String>,
        kind: Option<String>,
    ) -> Result<RuleWish, CliError> {
        let config = match self.set.is_empty() {
            true => None,
            false => Some(targets::settings(&self.set)?),
        };
        Ok(RuleWish {
            id: id.map(|id| id.to_string()),
            name,
            kind,
            config,
            enabled: self.enabled,
            severity: self.severity,
        })
    }
}

struct OfRule;

impl Kind for OfRule {
    type Shape = RuleShape;
    const PATH: &'static str = "/policies";
    const MANY: &'static str = "policy rules";
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "TYPE", "CONFIG", "SEVERITY", "ENABLED"];

    fn row(r: &RuleShape) -> Vec<String> {
        vec![
            r.id.clone(),
            r.name.clone(),
            r.kind.clone(),
            r.config.to_string(),
            r.severity.clone(),
            r.enabled.to_string(),
        ]
    }

    fn facts(r: &RuleShape) -> Vec<(&'static str, String)> {
        vec![
            ("rule", r.id.clone()),
            ("name", r.name.clone()),
            ("type", r.kind.clone()),
            ("config", r.config.to_string()),
            ("severity", r.severity.clone()),
            ("enabled", r.enabled.to_string()),
            ("edited", output::moment(Some(&r.updated_at))),
        ]
    }
}

/// Runs it.
pub async fn run(command: Policies, global: &Global, env: &Environment) -> Result<(), CliError> {
    let output = global.output;
    match command {
        Policies::List => documents::list::<OfRule>(&Client::new(global, env)?, output).await,
        Policies::Show { rule } => {
            documents::show::<OfRule>(&Client::new(global, env)?, &rule, output).await
        }
        Policies::Create {
            id,
            name,
            kind,
            says,
        } => {
            let wish = says.wish(id, Some(name), Some(kind))?;
            documents::create::<OfRule>(&Client::new(global, env)?, &wish, output).await
        }
        Policies::Edit { rule, name, says } => {
            let wish = says.wish(None, name, None)?;
            documents::edit::<OfRule>(&Client::new(global, env)?, &rule, &wish, output).await
        }
        Policies::Delete { rule } => {
            documents::delete::<OfRule>(&Client::new(global, env)?, &rule, output).await
        }
        Policies::Violations { rule } => {
            violations(&Client::new(global, env)?, &rule, output).await
        }
    }
}

async fn violations(client: &Client, rule: &Id, output: Output) -> Result<(), CliError> {
    let mut all: Vec<ViolationShape> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/policies/{rule}/violations?per_page=500&cursor={cursor}");
        let list: List<ViolationShape> = client.get(&path).await?;
        all.extend(list.data);
        match list.next_cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    if output == Output::Json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::line("Every certificate is as the rule wants it.");
        return Ok(());
    }
    output::table(
        &["CERTIFICATE", "SINCE", "WHY"],
        all.iter().map(|v| {
            vec![
                v.certificate_id.clone(),
                output::moment(Some(&v.created_at)),
                v.message.clone(),
            ]
        }),
    );
    Ok(())
}
