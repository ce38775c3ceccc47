//! `/certificates` and `/orders`.

use super::{
    Problem,
    extract::{Body, Caller, New, OptionalBody, id_in_field, id_in_path, once_key, optional_id},
    shapes::{
        CertificateNew, CertificateShape, DeployTriggered, DeployWish, JobShape, List, OrderShape,
        RenewalTriggered, TargetShape, VersionNew, VersionShape,
    },
};
use crate::{
    app::{
        App, Demand, NewCertificate,
        lists::{CertificateFilter, CertificateList, CertificatePage, Order},
    },
    clock::Time,
    domain::{Certificate, Status},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Paging, as the query says it. What is no number counts as not given.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Paging {
    /// The page, from 1.
    #[param(value_type = Option<u32>, minimum = 1)]
    pub(super) page: Option<String>,
    /// Rows a page, 50 where this is none of 1 to 500.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub(super) per_page: Option<String>,
}

impl Paging {
    /// As two parameters of a query say it.
    pub fn new(page: Option<String>, per_page: Option<String>) -> Self {
        Self { page, per_page }
    }

    /// (page, rows a page)
    pub fn numbers(&self) -> (usize, usize) {
        let number = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
        let page = number(&self.page).filter(|p| *p >= 1).unwrap_or(1);
        let per_page = number(&self.per_page)
            .filter(|n| (1..=500).contains(n))
            .unwrap_or(50);
        (page, per_page)
    }

    /// The rows of the page.
    pub fn list<T, U>(&self, rows: &[T], shape: impl Fn(&T) -> U) -> List<U> {
        let (page, per_page) = self.numbers();
        let skipped = (page - 1).saturating_mul(per_page);
        let data = rows.iter().skip(skipped).take(per_page).map(shape);
        let total = Some(rows.len() as u64);
        List::numbered(data.collect(), total, (page, per_page))
    }
}

/// Which certificates, in what order, from where on.
#[derive(Debug, Deserialize, IntoParams)]
pub struct CertificateQuery {
    /// Those of which this is true: a predicate, not the status shown.
    status: Option<String>,
    /// Those of an environment.
    environment: Option<String>,
    /// Those of an owner.
    owner_id: Option<String>,
    /// Those of a team.
    team_id: Option<String>,
    /// Those of an issuer.
    issuer_id: Option<String>,
    /// Those of a profile.
    profile_id: Option<String>,
    /// Those with a key on an agent.
    agent_id: Option<String>,
    /// `deployment`: those whose deployment failed and is tried again.
    problem: Option<String>,
    /// `name`, `expiresAt` (or `notAfter`) or `createdAt`; with `-` before it, the last first.
    sort: Option<String>,
    /// `true`: the last first.
    sort_desc: Option<String>,
    /// Rows a page, where it is asked for by cursor.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    page_size: Option<String>,
    /// The `next_cursor` of the page before, asked for with the same filter and order.
    cursor: Option<String>,
    /// The page, from 1.
    #[param(value_type = Option<u32>, minimum = 1)]
    page: Option<String>,
    /// Rows a page, 50 where this is none of 1 to 500.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    per_page: Option<String>,
}

impl CertificateQuery {
    fn filter(&mut self) -> Result<CertificateFilter, Problem> {
        let status = given(self.status.take()).map(|word| {
            Status::of_word(&word).ok_or_else(|| {
                let words = Status::ALL.map(Status::as_str).join(", ");
                Problem::bad("status", format!("{word:?} is none of {words}"))
            })
        });
        Ok(CertificateFilter {
            status: status.transpose()?,
            environment: given(self.environment.take()),
            owner_id: given(self.owner_id.take()),
            team_id: given(self.team_id.take()),
            issuer_id: given(self.issuer_id.take()),
            profile_id: given(self.profile_id.take()),
            agent_id: given(self.agent_id.take()),
        })
    }

    /// (order, the last first). What is no known order is by creation.
    fn order(&self) -> (Order, bool) {
        let sort = self.sort.as_deref().unwrap_or_default();
        let (minus, sort) = match sort.strip_prefix('-') {
            Some(sort) => (true, sort),
            None => (false, sort),
        };
        let order = match sort {
            "name" => Order::Name,
            "expiresAt" | "notAfter" => Order::Expiry,
            _ => Order::Created,
        };
        let backward = minus || self.sort_desc.as_deref() == Some("true");
        (order, backward)
    }
}

pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A certificate in a list.
fn listed(certificate: &Certificate, problem: Option<String>, now: Time) -> CertificateShape {
    CertificateShape {
        problem,
        ..CertificateShape::new(certificate, certificate.status(now))
    }
}

/// Certificates, oldest first where the query does not say otherwise.
#[utoipa::path(
    get,
    path = "/certificates",
    params(CertificateQuery),
    responses((status = 200, body = List<CertificateShape>)),
    security(("key" = ["cert.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(mut query): Query<CertificateQuery>,
) -> Result<Json<List<CertificateShape>>, Problem> {
    let filter = query.filter()?;
    if let Some(problem) = given(query.problem.take()) {
        if problem != "deployment" || filter != CertificateFilter::default() {
            let message = "`deployment` is the one there is, and stands without other filters";
            return Err(Problem::bad("problem", message));
        }
        let paging = Paging {
            page: query.page.take(),
            per_page: query.per_page.take(),
        };
        let rows = app.failed_on_a_target(&who, usize::MAX).await?;
        let (number, per_page) = paging.numbers();
        let first = (number - 1).saturating_mul(per_page).min(rows.len());
        let page = &rows[first..rows.len().min(first + per_page)];
        let problems = app.problems(page).await?;
        let now = app.now();
        let shown = page.iter().zip(problems).map(|(c, p)| listed(c, p, now));
        let total = Some(rows.len() as u64);
        let list = List::numbered(shown.collect(), total, (number, per_page));
        return Ok(Json(list));
    }
    let (order, backward) = query.order();
    let cursor = given(query.cursor.take());
    let size = query.page_size.take();
    let paging = Paging {
        page: query.page.take(),
        per_page: query.per_page.take().or(size),
    };
    let (number, per_page) = paging.numbers();
    let by_number = cursor.is_none();
    let list = CertificateList {
        filter,
        order,
        backward,
        cursor,
        skip: if by_number {
            (number - 1).saturating_mul(per_page)
        } else {
            0
        },
        limit: per_page,
    };
    let CertificatePage { listed: page, next } = app.list_certificates(&who, &list).await?;
    let now = app.now();
    let problems = app.problems(&page.rows).await?;
    let rows = page.rows.iter().zip(problems);
    let data = rows.map(|(c, problem)| listed(c, problem, now)).collect();
    let mut list = List::numbered(data, page.total, (number, per_page));
    if !by_number {
        (list.page, list.per_page, list.page_size) = (None, None, Some(per_page));
    }
    list.next_cursor = next;
    Ok(Json(list))
}

/// Makes a certificate.
#[utoipa::path(
    post,
    path = "/certificates",
    request_body = CertificateNew,
    responses((status = 201, body = CertificateShape), (status = 502)),
    security(("key" = ["cert.issue"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(new, once): New<CertificateNew>,
) -> Result<Response, Problem> {
    let targets = new.target_ids.iter().map(|t| id_in_field("target_ids", t));
    let new = NewCertificate {
        id: optional_id("id", new.id.as_ref())?,
        issuer_id: optional_id("issuer_id", new.issuer_id.as_ref())?,
        profile_id: optional_id(
            "certificate_profile_id",
            new.certificate_profile_id.as_ref(),
        )?,
        policy_id: optional_id("renewal_policy_id", new.renewal_policy_id.as_ref())?,
        targets: targets.collect::<Result<_, _>>()?,
        name: new.name,
        common_name: new.common_name,
        sans: new.sans,
        environment: new.environment,
        owner_id: new.owner_id,
        team_id: new.team_id,
        tags: new.tags,
        csr_pem: new.csr_pem,
    };
    let certificate = app.create_certificate(&who, &new, once.as_ref()).await?;
    let shape = CertificateShape::new(&certificate, certificate.status(app.now()));
    Ok((StatusCode::CREATED, Json(shape)).into_response())
}

/// One certificate, with what happens next to it.
#[utoipa::path(
    get,
    path = "/certificates/{id}",
    responses((status = 200, body = CertificateShape)),
    security(("key" = ["cert.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<CertificateShape>, Problem> {
    let id = id_in_path("certificate", &id)?;
    let view = app.view(&who, &id).await?;
    Ok(Json(CertificateShape::from(&view)))
}

/// A certificate's versions, newest first, with their PEM.
#[utoipa::path(
    get,
    path = "/certificates/{id}/versions",
    params(Paging),
    responses((status = 200, body = List<VersionShape>)),
    security(("key" = ["cert.read"])),
)]
pub async fn versions(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<List<VersionShape>>, Problem> {
    let id = id_in_path("certificate", &id)?;
    let (page, per_page) = paging.numbers();
    let skip = (page - 1).saturating_mul(per_page);
    let (rows, total) = app.versions(&who, &id, skip, per_page).await?;
    let mut data = Vec::with_capacity(rows.len());
    for version in rows {
        let mut shape = VersionShape::from(&*version);
        shape.pem_chain = Some(app.fullchain_pem(&who, &version).await?);
        data.push(shape);
    }
    Ok(Json(List::numbered(data, Some(total), (page, per_page))))
}

/// Issues for a CSR.
#[utoipa::path(
    post,
    path = "/certificates/{id}/versions",
    request_body = VersionNew,
    responses((status = 201, body = VersionShape), (status = 502)),
    security(("key" = ["cert.issue"])),
)]
pub async fn request_version(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(new): Body<VersionNew>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let key = once_key(&headers)?;
    let version = app
        .request_version(&who, &id, &new.csr_pem, key.as_ref())
        .await?;
    let mut shape = VersionShape::from(&version);
    shape.pem_chain = Some(app.fullchain_pem(&who, &version).await?);
    Ok((StatusCode::CREATED, Json(shape)).into_response())
}

/// A certificate's targets, each with its newest deployment.
#[utoipa::path(
    get,
    path = "/certificates/{id}/deployments",
    params(Paging),
    responses((status = 200, body = List<TargetShape>)),
    security(("key" = ["cert.read"])),
)]
pub async fn deployments(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<List<TargetShape>>, Problem> {
    let id = id_in_path("certificate", &id)?;
    let rows = app.deployments(&who, &id).await?;
    Ok(Json(paging.list(&rows, |d| TargetShape::from(d))))
}

/// Opens an order for each agent that holds a key, or answers the one that is open.
#[utoipa::path(
    post,
    path = "/certificates/{id}/renew",
    responses((status = 202, body = RenewalTriggered, headers(("location" = String, description = "The first order")))),
    security(("key" = ["cert.issue"])),
)]
pub async fn renew(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let orders = app.renew(&who, &id).await?;
    let body = RenewalTriggered {
        status: "renewal_triggered".into(),
        order_ids: orders.iter().map(|o| o.id.to_string()).collect(),
    };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Some(first) = orders.first()
        && let Ok(place) = HeaderValue::from_str(&format!("/api/v1/orders/{}", first.id))
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Deploys the current version again, or says what that would change.
#[utoipa::path(
    post,
    path = "/certificates/{id}/deploy",
    request_body = Option<DeployWish>,
    responses((status = 202, body = DeployTriggered)),
    security(("key" = ["cert.edit"])),
)]
pub async fn deploy(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    OptionalBody(wish): OptionalBody<DeployWish>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let target = optional_id("target_id", wish.target_id.as_ref())?;
    let (demand, status) = match wish.dry_run {
        true => (Demand::DryRun, "dry_run_triggered"),
        false => (Demand::Deploy, "deployment_triggered"),
    };
    let jobs = app.deploy(&who, &id, target.as_ref(), demand).await?;
    let body = DeployTriggered {
        status: status.into(),
        jobs: jobs.iter().map(JobShape::from).collect(),
    };
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// An order, and what came of it.
#[utoipa::path(
    get,
    path = "/orders/{id}",
    operation_id = "show",
    responses((status = 200, body = OrderShape)),
    security(("key" = ["cert.read"])),
)]
pub async fn order(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<OrderShape>, Problem> {
    let id = id_in_path("order", &id)?;
    let story = app.order(&who, &id).await?;
    Ok(Json(OrderShape::new(
        &story.order,
        story.version.as_ref(),
        &story.deployments,
    )))
}
