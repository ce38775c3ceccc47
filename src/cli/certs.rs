//! `certctl certs`.

use super::{
    CliError, Global, Output, attempts,
    bulk::{self, Filtered},
    certs_edit,
    client::Client,
    follow::{self, Step, Wait},
    host, output, served,
};
use crate::{
    api::served::{PlaceShape, ServedShape},
    api::shapes::{
        CertificateShape, DeployTriggered, DeployWish, ExportShape, HolderShape, List, OrderShape,
        RenewalTriggered, RevokeWish, StatusShape, TargetShape, VersionShape,
    },
    config::Environment,
    id::Id,
    sys::{Disk, Files},
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::{path::PathBuf, time::Duration};

/// List, show, make, edit, renew, deploy, revoke, archive and export certificates.
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// List certificates
    List {
        #[command(flatten)]
        filter: certs_edit::Filter,
    },
    /// Make a certificate: its targets' agents get it, or its CSR's sender
    Create(certs_edit::Create),
    /// Edit a certificate; what no flag names stays as it is
    Edit(certs_edit::Edit),
    /// Show a certificate: its versions, where they are served, and what happens next
    Show {
        /// The certificate's id
        certificate: Id,
    },
    /// Have the agents look at what is served now; ends with 1 when it is not the current version
    Check {
        /// The certificate's id
        certificate: Id,
    },
    /// Renew a certificate now, and see the new version served; or all that fit a filter, without
    /// waiting
    Renew {
        /// The certificate's id
        #[arg(required_unless_present = "filter", conflicts_with = "filter")]
        certificate: Option<Id>,
        #[command(flatten)]
        many: Filtered,
        #[command(flatten)]
        wait: Wait,
    },
    /// Deploy the current version again, now, and see it served
    Deploy {
        /// The certificate's id
        certificate: Id,
        /// Only on this target
        #[arg(long, value_name = "ID")]
        target: Option<Id>,
        /// Say what it would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Revoke every version of a certificate, or of all that fit a filter; this cannot be undone
    Revoke {
        /// The certificate's id
        #[arg(required_unless_present = "filter", conflicts_with = "filter")]
        certificate: Option<Id>,
        #[command(flatten)]
        many: Filtered,
        /// Why: unspecified, keyCompromise, caCompromise, affiliationChanged, superseded,
        /// cessationOfOperation, certificateHold or privilegeWithdrawn
        #[arg(long, default_value = "unspecified")]
        reason: String,
    },
    /// Give certificates another owner
    Reassign {
        /// The certificates' ids
        #[arg(required = true)]
        certificates: Vec<Id>,
        /// The owner
        #[arg(long, value_name = "ID")]
        owner: String,
        /// The owner's team; it stays when absent
        #[arg(long, value_name = "ID")]
        team: Option<String>,
    },
    /// Put a certificate away: nothing is issued or deployed for it any more
    Archive {
        /// The certificate's id
        certificate: Id,
    },
    /// Print the newest version and its issuers, or write them to a file. No private key is among
    /// them: the server has none
    Export(Export),
}

/// What is exported, and how.
#[derive(Debug, Args)]
pub struct Export {
    /// The certificate's id
    certificate: Id,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
    /// Write to this file; PKCS#12 must be
    #[arg(long, value_name = "FILE", required_if_eq("format", "pkcs12"))]
    out: Option<PathBuf>,
    /// File of the password of a PKCS#12 file; one line end at its end is left out [default: an
    /// empty password]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// How a version is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// PEM blocks.
    Pem,
    /// PKCS#12, as Java and Windows read it.
    Pkcs12,
}

/// Runs it.
pub async fn run(command: Certs, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::patient(global, env)?;
    match command {
        Certs::List { filter } => list(&client, &filter, global.output).await,
        Certs::Create(new) => certs_edit::create(&client, new, global.output).await,
        Certs::Edit(edit) => certs_edit::edit(&client, edit, global.output).await,
        Certs::Show { certificate } => show(&client, &certificate, global.output).await,
        Certs::Check { certificate } => served::check(&client, &certificate, global.output).await,
        Certs::Renew {
            certificate,
            many,
            wait,
        } => match certificate {
            Some(id) => renew(&client, &id, wait.limit(), global.output).await,
            None => bulk::renew(&client, &many, global.output).await,
        },
        Certs::Revoke {
            certificate,
            many,
            reason,
        } => match certificate {
            Some(id) => revoke(&client, &id, reason, global.output).await,
            None => bulk::revoke(&client, &many, reason, global.output).await,
        },
        Certs::Reassign {
            certificates,
            owner,
            team,
        } => bulk::reassign(&client, &certificates, owner, team, global.output).await,
        Certs::Archive { certificate } => archive(&client, &certificate, global.output).await,
        Certs::Export(wish) => export(&client, wish, global.output).await,
        Certs::Deploy {
            certificate,
            target,
            dry_run,
            wait,
        } => {
            let wish = DeployWish {
                target_id: target.map(|id| id.to_string()),
                dry_run,
            };
            let path = format!("/certificates/{certificate}/deploy");
            let triggered: DeployTriggered = client.post(&path, &wish).await?;
            let doing = if dry_run { "trying" } else { "deploying" };
            follow::jobs(&client, triggered.jobs, &wait, doing, global.output).await
        }
    }
}

async fn revoke(client: &Client, id: &Id, reason: String, output: Output) -> Result<(), CliError> {
    let wish = RevokeWish {
        reason: Some(reason),
    };
    let path = format!("/certificates/{id}/revoke");
    let done: StatusShape = client.post(&path, &wish).await?;
    if output == Output::Json {
        return output::json(&done);
    }
    output::line(&format!("{id} is revoked"));
    Ok(())
}

async fn archive(client: &Client, id: &Id, output: Output) -> Result<(), CliError> {
    client.delete(&format!("/certificates/{id}")).await?;
    if output == Output::Json {
        return output::json(&StatusShape {
            status: "archived".into(),
        });
    }
    output::line(&format!("{id} is archived"));
    Ok(())
}

async fn export(client: &Client, wish: Export, output: Output) -> Result<(), CliError> {
    let path = format!("/certificates/{}/export", wish.certificate);
    let bytes = match wish.format {
        Format::Pem => {
            let export: ExportShape = client.get(&format!("{path}/pem")).await?;
            if wish.out.is_none() {
                if output == Output::Json {
                    return output::json(&export);
                }
                output::line(export.full_pem.trim_end());
                return Ok(());
            }
            export.full_pem.into()
        }
        Format::Pkcs12 => {
            let password = wish.password_file.as_deref().map(host::read_secret);
            let password = password.transpose()?.unwrap_or_default();
            let body = serde_json::json!({"password": *password});
            client
                .post_for_bytes(&format!("{path}/pkcs12"), &body)
                .await?
        }
    };
    let Some(out) = wish.out else { return Ok(()) };
    let written = Disk.write_durable(&out, &bytes, 0o644);
    written.map_err(|e| CliError::Storage(e.to_string()))?;
    let file = out.display();
    if output == Output::Json {
        return output::json(&serde_json::json!({"file": file.to_string()}));
    }
    output::line(&format!("{} is written to {file}", wish.certificate));
    Ok(())
}

async fn list(
    client: &Client,
    filter: &certs_edit::Filter,
    output: Output,
) -> Result<(), CliError> {
    let filter = filter.query();
    let mut all: Vec<CertificateShape> = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let path = format!("/certificates?page_size=500&cursor={cursor}{filter}");
        let list: List<CertificateShape> = client.get(&path).await?;
        all.extend(list.data);
        next = list.next_cursor;
    }
    if output == Output::Json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::line(match filter.is_empty() {
            true => "There are no certificates yet.",
            false => "There are no such certificates.",
        });
        return Ok(());
    }
    let mut header = vec!["ID", "NAMES", "STATUS", "EXPIRES", "NEXT"];
    let troubled = all.iter().any(|c| c.problem.is_some());
    if troubled {
        header.push("PROBLEM");
    }
    output::table(
        &header,
        all.iter().map(|c| {
            let mut row = vec![
                c.id.clone(),
                c.sans.join(" "),
                c.status.clone(),
                output::moment(Some(&c.expires_at)),
                c.holders.iter().map(plan).collect::<Vec<_>>().join("; "),
            ];
            if troubled {
                row.push(c.problem.clone().unwrap_or_default());
            }
            row
        }),
    );
    Ok(())
}

fn plan(h: &HolderShape) -> String {
    match h.plan.as_str() {
        "scheduled" => format!("renews {}", output::moment(h.next_at.as_deref())),
        "in_flight" => "being renewed".into(),
        _ => h.reason.clone().unwrap_or_default(),
    }
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    certificate: CertificateShape,
    targets: Vec<TargetShape>,
    versions: Vec<VersionShape>,
    served: Vec<PlaceShape>,
}

async fn show(client: &Client, id: &Id, output: Output) -> Result<(), CliError> {
    let certificate: CertificateShape = client.get(&format!("/certificates/{id}")).await?;
    let path = format!("/certificates/{id}/deployments?per_page=500");
    let targets: List<TargetShape> = client.get(&path).await?;
    let path = format!("/certificates/{id}/versions?per_page=10");
    let versions: List<VersionShape> = client.get(&path).await?;
    let served: ServedShape = client.get(&format!("/certificates/{id}/served")).await?;
    let shown = Shown {
        served: served.data,
        certificate,
        targets: targets.data,
        versions: versions.data,
    };
    if output == Output::Json {
        return output::json(&shown);
    }
    let c = &shown.certificate;
    let mut rows = vec![
        ("certificate", c.id.clone()),
        ("names", c.sans.join(" ")),
        ("status", c.status.clone()),
        ("issuer", c.issuer_id.clone()),
        ("profile", c.certificate_profile_id.clone()),
        ("policy", c.renewal_policy_id.clone()),
        ("expires", output::moment(Some(&c.expires_at))),
        (
            "next",
            output::sentence(c.next.as_deref().unwrap_or_default()),
        ),
    ];
    if let Some(problem) = &c.problem {
        rows.push(("problem", problem.clone()));
    }
    let labels = [
        ("environment", c.environment.clone()),
        ("owner", c.owner_id.clone()),
        ("team", c.team_id.clone()),
        ("tags", tags(c)),
    ];
    rows.extend(labels.into_iter().filter(|(_, value)| !value.is_empty()));
    rows.extend(
        c.warnings
            .iter()
            .map(|warning| ("warning", warning.clone())),
    );
    for (name, value) in rows {
        output::line(&format!("{name:<12} {value}"));
    }
    output::line("");
    if shown.targets.is_empty() {
        output::line("It has no targets.");
    } else {
        output::table(
            &["TARGET", "TYPE", "STATE", "SERIAL", "SEEN SERVED"],
            shown.targets.iter().map(target_row),
        );
    }
    if !shown.served.is_empty() {
        output::line("");
        served::table(&shown.served);
    }
    for target in &shown.targets {
        if let Some(deployment) = &target.deployment
            && let Some(attempt) = &deployment.last_attempt
        {
            output::line("");
            output::line(&format!("{}: {}", target.name, attempts::headline(attempt)));
            attempts::print(attempt, deployment.error.as_deref());
        }
    }
    output::line("");
    if shown.versions.is_empty() {
        output::line("It has no version yet.");
    } else {
        output::table(
            &["VERSION", "SERIAL", "KEY", "FROM", "UNTIL"],
            shown.versions.iter().map(|v| {
                vec![
                    v.id.clone(),
                    v.serial_number.clone(),
                    v.key_algorithm.clone(),
                    output::moment(Some(&v.not_before)),
                    output::moment(Some(&v.not_after)),
                ]
            }),
        );
    }
    Ok(())
}

fn tags(c: &CertificateShape) -> String {
    let tags = c.tags.iter();
    let words: Vec<String> = tags
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.join(" ")
}

fn target_row(t: &TargetShape) -> Vec<String> {
    let Some(d) = &t.deployment else {
        let none = || "-".to_owned();
        return vec![t.name.clone(), t.kind.clone(), none(), none(), none()];
    };
    let seen = match d.state.as_str() {
        "confirmed" => format!(
            "{} at {}",
            d.confirmed_at.join(" "),
            output::moment(d.at.as_deref())
        ),
        "failed" => format!("no: {}", follow::deployment_fault(d)),
        _ => "not yet".into(),
    };
    vec![
        t.name.clone(),
        t.kind.clone(),
        d.state.clone(),
        d.serial_number.clone(),
        seen,
    ]
}

async fn renew(
    client: &Client,
    id: &Id,
    wait: Option<Duration>,
    output: Output,
) -> Result<(), CliError> {
    let path = format!("/certificates/{id}/renew");
    let triggered: RenewalTriggered = client.post(&path, &serde_json::json!({})).await?;
    let Some(limit) = wait else {
        if output == Output::Json {
            return output::json(&triggered);
        }
        for order in &triggered.order_ids {
            output::line(&format!("order {order} is open"));
        }
        return Ok(());
    };
    if output == Output::Table {
        let shown: CertificateShape = client.get(&format!("/certificates/{id}")).await?;
        let next = output::sentence(shown.next.as_deref().unwrap_or_default());
        output::line(&format!("begun      {next}"));
    }
    let spinner = follow::spinner(&format!("renewing {id}"), output);
    let mut orders: Vec<OrderShape> = Vec::new();
    for order in &triggered.order_ids {
        let followed = follow::order(client, order, limit, |step| {
            if output == Output::Table {
                spinner.suspend(|| output::line(&said(step)));
            }
        });
        orders.push(followed.await?);
    }
    spinner.finish_and_clear();
    if output == Output::Json {
        output::json(&orders)?;
    }
    match orders.iter().find_map(follow::fault) {
        Some(fault) => Err(CliError::Failed(fault)),
        None => Ok(()),
    }
}

/// A step, as a line.
pub fn said(step: &Step) -> String {
    match step {
        Step::Issued(serial) => format!("issued     serial {serial}"),
        Step::Confirmed(d) => {
            let seen = d.confirmed_at.join(" ");
            format!("confirmed  {} seen served at {seen}", d.target_name)
        }
        Step::Failed(d) => format!("failed     {}", follow::deployment_fault(d)),
    }
}
