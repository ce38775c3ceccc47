//! One certificate: where each version was put, how that went, and what can be done about it.

use super::{
    Page, Reader, assets,
    attempt::{self, Shown},
    certificates::{Badge, Place, badge, place},
    may,
    moment::{Moment, Part, sentence},
    served,
    signin::SignedIn,
};
use crate::{
    access::Permission,
    api::Problem,
    app::{
        App, AppError, Demand, JobFilter, JobList, JobView, ServedNow,
        views::{Called, CertificateView},
    },
    clock::Time,
    domain::{Certificate, JobKind, Principal},
    id::Id,
};
use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use serde::Deserialize;
use std::sync::Arc;

/// Jobs on the page.
const JOBS: usize = 20;

#[derive(Template)]
#[template(path = "certificate.html")]
struct Whole<'a> {
    who: &'a Reader,
    sheet: Sheet<'a>,
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "certificate"
    }
}

/// What is refreshed while something is under way.
#[derive(Template)]
#[template(path = "sheet.html")]
struct Sheet<'a> {
    busy: bool,
    now: Moment,
    clock: String,
    view: &'a CertificateView,
    called: &'a Called,
    tags: Vec<String>,
    badge: Badge,
    names: Vec<String>,
    expires: Option<Moment>,
    next: Vec<Part>,
    targets: Vec<OnTarget<'a>>,
    served: Vec<served::Row<'a>>,
    /// The agents were just asked to look; whether all have.
    checked: Option<bool>,
    jobs: Option<Vec<Row>>,
    may_deploy: bool,
    may_end: bool,
}

struct OnTarget<'a> {
    id: &'a Id,
    place: Place<'a>,
    last: Option<Shown<'a>>,
    trial: Option<Trial<'a>>,
}

/// The newest dry run on a target.
struct Trial<'a> {
    waits: Option<String>,
    attempt: Option<Shown<'a>>,
}

struct Row {
    id: Id,
    kind: &'static str,
    badge: Badge,
    made: Moment,
    says: String,
}

/// All that the page shows.
struct Facts {
    view: CertificateView,
    called: Called,
    served: ServedNow,
    checked: Option<bool>,
    jobs: Option<Vec<JobView>>,
    now: Time,
}

impl Facts {
    async fn of(app: &App, who: &Principal, id: &str) -> Result<Self, Problem> {
        let id = certificate_id(id)?;
        let view = app.view(who, &id).await?;
        let called = app.called(who, &view.certificate).await?;
        let served = app.served(who, &id).await?;
        let list = JobList {
            filter: JobFilter {
                certificate: Some(id),
                ..JobFilter::default()
            },
            limit: JOBS,
            ..JobList::default()
        };
        let jobs = match app.list_jobs(who, &list).await {
            Ok(page) => Some(page.rows),
            Err(AppError::Forbidden(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let now = app.now();
        Ok(Self {
            view,
            called,
            served,
            checked: None,
            jobs,
            now,
        })
    }

    fn sheet(&self, who: &Principal) -> Sheet<'_> {
        let Self {
            view, called, now, ..
        } = self;
        let now = *now;
        let moment = Moment::new(now, now);
        let jobs = self.jobs.as_deref();
        Sheet {
            busy: jobs.is_some_and(|jobs| jobs.iter().any(|j| j.job.is_open())),
            clock: moment.machine.get(11..19).unwrap_or_default().to_owned(),
            now: moment,
            view,
            called,
            tags: tags(&view.certificate),
            badge: badge(view.status),
            names: view
                .certificate
                .sans
                .iter()
                .map(ToString::to_string)
                .collect(),
            expires: view.expires_at.map(|at| Moment::new(at, now)),
            next: sentence(&view.next, now),
            targets: self.targets(),
            served: served::rows(&self.served, now),
            checked: self.checked,
            jobs: jobs.map(|jobs| jobs.iter().map(|job| row(job, now)).collect()),
            may_deploy: may(who, Permission::CertEdit) && view.certificate.ended().is_none(),
            may_end: may(who, Permission::CertRevoke)
                && (view.certificate.revoked.is_none() || view.certificate.archived_at.is_none()),
        }
    }

    fn targets(&self) -> Vec<OnTarget<'_>> {
        let now = self.now;
        let jobs = self.jobs.as_deref().unwrap_or_default();
        let deployed = self.view.deployed.iter().map(|deployed| {
            let id = &deployed.target.id;
            let on_it = |job: &&JobView| job.job.target.as_ref() == Some(id);
            let is_dry = |job: &&JobView| matches!(job.job.kind, JobKind::Rehearse { .. });
            let trial = jobs.iter().filter(on_it).find(is_dry);
            let last = deployed.deployment.as_ref().and_then(|d| d.last.as_ref());
            OnTarget {
                id,
                place: place(deployed, None, now),
                last: last.map(|attempt| Shown::new(attempt, now)),
                trial: trial.map(|job| Trial {
                    waits: attempt::waits(job),
                    attempt: job.job.last.as_ref().map(|a| Shown::new(a, now)),
                }),
            }
        });
        deployed.collect()
    }
}

fn tags(certificate: &Certificate) -> Vec<String> {
    let tags = certificate.tags.iter();
    tags.map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn row(view: &JobView, now: Time) -> Row {
    let job = &view.job;
    let error = job.last_error.clone();
    let says = attempt::waits(view).or_else(|| job.unwanted.clone());
    Row {
        id: job.id.clone(),
        kind: match job.kind {
            JobKind::Issue { first: true, .. } => "Issuance",
            JobKind::Issue { first: false, .. } => "Renewal",
            JobKind::Deploy { .. } => "Deployment",
            JobKind::Rehearse { .. } => "Dry run",
            JobKind::Test => "Test of a target",
        },
        badge: attempt::badge(view),
        made: Moment::new(job.created_at, now),
        says: says.or(error).unwrap_or_default(),
    }
}

pub fn certificate_id(text: &str) -> Result<Id, Problem> {
    text.parse()
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such certificate"))
}

/// What the page's address says.
#[derive(Deserialize)]
pub struct View {
    /// `all` or `some` of the agents have just looked.
    checked: Option<String>,
}

/// `GET /certificates/{id}`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
    Query(view): Query<View>,
) -> Result<impl IntoResponse, Problem> {
    let facts = Facts {
        checked: view.checked.map(|word| word == "all"),
        ..Facts::of(&app, &who, &id).await?
    };
    let sheet = facts.sheet(&who);
    Ok(Page(Whole { who: &who, sheet }).into_response())
}

/// `GET /certificates/{id}/fragment`
pub async fn fragment(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let facts = Facts::of(&app, &who, &id).await?;
    Ok(Page(facts.sheet(&who)).into_response())
}

/// What a target's form asks for.
#[derive(Deserialize)]
pub struct Wish {
    target: String,
    act: Act,
}

/// The button that was pressed.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Deploy,
    DryRun,
}

/// `POST /certificates/{id}/deploy`
pub async fn deploy(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<impl IntoResponse, Problem> {
    let id = certificate_id(&id)?;
    let target: Id = wish.target.parse().map_err(|e| Problem::bad("target", e))?;
    let demand = match wish.act {
        Act::Deploy => Demand::Deploy,
        Act::DryRun => Demand::DryRun,
    };
    app.deploy(&who, &id, Some(&target), demand).await?;
    Ok(Redirect::to(&format!("/certificates/{id}#target-{target}")))
}
