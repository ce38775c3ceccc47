//! Following an order until its version is seen served everywhere, or something failed.

use super::{CliError, client::Client};
use crate::api::shapes::{CertificateShape, DeploymentShape, OrderShape};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};

/// The server is asked this often.
const EVERY: Duration = Duration::from_millis(150);

/// One thing that was seen to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The version was issued.
    Issued(String),
    /// A target was seen to serve it.
    Confirmed(Box<DeploymentShape>),
    /// A target does not serve it.
    Failed(Box<DeploymentShape>),
}

/// Follows an order, telling each step once. Returns the order when nothing of it is pending any
/// more.
pub async fn order(
    client: &Client,
    id: &str,
    limit: Duration,
    mut tell: impl FnMut(&Step),
) -> Result<OrderShape, CliError> {
    let deadline = Instant::now() + limit;
    let mut told = BTreeSet::new();
    let mut issued = false;
    loop {
        let order: OrderShape = client.get(&format!("/orders/{id}")).await?;
        if let (Some(serial), false) = (&order.serial_number, issued) {
            issued = true;
            tell(&Step::Issued(serial.clone()));
        }
        for deployment in &order.deployments {
            let step = match deployment.state.as_str() {
                "confirmed" => Step::Confirmed(Box::new(deployment.clone())),
                "failed" => Step::Failed(Box::new(deployment.clone())),
                _ => continue,
            };
            if told.insert(deployment.target_id.clone()) {
                tell(&step);
            }
        }
        let pending = order.deployments.iter().any(|d| d.state == "pending");
        if order.state != "open" && !pending {
            return Ok(order);
        }
        if Instant::now() >= deadline {
            let path = format!("/certificates/{}", order.certificate_id);
            let certificate: CertificateShape = client.get(&path).await?;
            return Err(CliError::Failed(still_open(&order, &certificate, limit)));
        }
        sleep(EVERY).await;
    }
}

fn still_open(order: &OrderShape, certificate: &CertificateShape, limit: Duration) -> String {
    let seconds = limit.as_secs();
    let id = &order.certificate_id;
    if order.state == "open" {
        let next = certificate.next.as_deref().unwrap_or_default();
        return format!(
            "after {seconds} s the order is open and goes on by itself: {next}; see `certs show {id}`"
        );
    }
    let waiting: Vec<&str> = order
        .deployments
        .iter()
        .filter(|d| d.state == "pending")
        .map(|d| d.target_name.as_str())
        .collect();
    format!(
        "after {seconds} s these targets have not been deployed: {}; they stay queued, see \
         `certs show {id}`",
        waiting.join(", ")
    )
}

/// What is wrong with an order that has come to rest; `None` when every target serves its version.
pub fn fault(order: &OrderShape) -> Option<String> {
    if order.state == "failed" {
        let reason = order.error.as_deref().unwrap_or("no reason was given");
        return Some(format!("{} was not issued: {reason}", order.certificate_id));
    }
    let unproven = order.deployments.iter().find(|d| d.state != "confirmed")?;
    let why = match unproven.state.as_str() {
        "superseded" => format!(
            "target {}: a newer version took its place before it was seen served; see \
             `certctl certs show {}`",
            unproven.target_name, order.certificate_id
        ),
        _ => deployment_fault(unproven),
    };
    Some(format!(
        "{} is not served with its new version: {why}",
        order.certificate_id
    ))
}

/// What is wrong with a failed deployment, with the serial number that is still served.
pub fn deployment_fault(d: &DeploymentShape) -> String {
    let reason = d.error.as_deref().unwrap_or("no reason was given");
    let mut text = format!("target {}: {reason}", d.target_name);
    for still in &d.still_served {
        if !reason.contains(&still.serial_number) {
            text += &format!(
                "; {} still serves serial {}",
                still.endpoint, still.serial_number
            );
        }
    }
    text
}
