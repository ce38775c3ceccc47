//! Following an order until its version is seen served everywhere, or something failed; and jobs
//! until they have ended.

use super::{CliError, Output, attempts, client::Client, output};
use crate::api::shapes::{CertificateShape, DeploymentShape, JobShape, OrderShape};
use clap::Args;
use std::{collections::BTreeSet, io::IsTerminal, time::Duration};
use tokio::time::{Instant, sleep};

/// The server is asked this often.
const EVERY: Duration = Duration::from_millis(150);

/// Whether to wait for the end, and how long.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
    /// How long to wait, in seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Wait {
    /// How long to wait; `None`: not at all.
    pub fn limit(&self) -> Option<Duration> {
        (!self.no_wait).then(|| Duration::from_secs(self.timeout))
    }
}

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

/// Follows jobs to their ends and tells them. `doing` is the word for what they do.
///
/// # Errors
/// When one did not succeed, or is still open after the time.
pub async fn jobs(
    client: &Client,
    mut jobs: Vec<JobShape>,
    wait: &Wait,
    doing: &str,
    output: Output,
) -> Result<(), CliError> {
    let Some(limit) = wait.limit() else {
        if output == Output::Json {
            return output::json(&jobs);
        }
        for job in &jobs {
            output::line(&told(job));
        }
        return Ok(());
    };
    let deadline = Instant::now() + limit;
    let spinner = spinner(doing, output);
    let mut said = BTreeSet::new();
    loop {
        for job in &jobs {
            let waits = job.waits_for.is_some() || is_over(job);
            if waits && output == Output::Table && said.insert(told(job)) {
                spinner.suspend(|| tell(job));
            }
        }
        if jobs.iter().all(is_over) || Instant::now() >= deadline {
            break;
        }
        sleep(EVERY).await;
        for job in jobs.iter_mut().filter(|job| !is_over(job)) {
            *job = client.get(&format!("/jobs/{}", job.id)).await?;
        }
    }
    spinner.finish_and_clear();
    if output == Output::Json {
        output::json(&jobs)?;
    }
    let wrong: Vec<String> = jobs.iter().filter_map(wrong).collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(CliError::Failed(wrong.join("; ")))
    }
}

fn is_over(job: &JobShape) -> bool {
    job.completed_at.is_some()
}

/// Prints where a job stands; of one that has ended, how.
fn tell(job: &JobShape) {
    output::line(&told(job));
    if let Some(attempt) = job.last_attempt.as_ref().filter(|_| is_over(job)) {
        attempts::print(attempt, None);
    }
}

fn told(job: &JobShape) -> String {
    let place = place(job);
    match (&job.last_attempt, &job.waits_for) {
        (Some(attempt), _) if is_over(job) => {
            format!("{place}: {}", attempts::headline(attempt))
        }
        (_, Some(waits)) => format!("{place}: job {} {}", job.id, output::sentence(waits)),
        _ => format!("{place}: job {} is {}", job.id, job.status.to_lowercase()),
    }
}

fn place(job: &JobShape) -> &str {
    job.target_id.as_deref().unwrap_or(&job.id)
}

/// What is wrong with a job at the end of the wait.
fn wrong(job: &JobShape) -> Option<String> {
    let place = place(job);
    if !is_over(job) {
        let waits = job.waits_for.as_deref().unwrap_or("is being run");
        return Some(format!(
            "{place}: job {} has not ended: it {}; it goes on by itself, see `jobs show {}`",
            job.id,
            output::sentence(waits),
            job.id
        ));
    }
    if job.status == "Completed" {
        return None;
    }
    let why = job.unwanted.as_ref().or(job.last_error.as_ref());
    let why = why.map_or("no reason was given", String::as_str);
    Some(format!("{place}: {}: {why}", job.status.to_lowercase()))
}

/// Shows that work goes on, when somebody watches.
pub fn spinner(text: &str, output: Output) -> indicatif::ProgressBar {
    if output == Output::Json || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let spinner = indicatif::ProgressBar::new_spinner().with_message(text.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
