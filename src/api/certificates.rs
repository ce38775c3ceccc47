//! `/certificates` and `/orders`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{
        Body, Caller, Edit, New, OptionalBody, id_in_field, id_in_path, once_key, optional_id,
    },
    pages::{Pages, given, moment},
    shapes::{
        CertificateNew, CertificateShape, CertificateWish, DeployTriggered, DeployWish, JobShape,
        List, OrderShape, RenewalTriggered, TargetShape, VersionNew, VersionShape,
    },
};
use crate::{
    app::{
        App, CertificateEdit, Demand, NewCertificate,
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

/// The most labels that a list is filtered by.
const MOST_TAGS: usize = 8;

/// Which certificates, in what order. An empty parameter counts as not given.
#[derive(Debug, Default, Deserialize, IntoParams)]
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
    /// Those of a renewal policy.
    renewal_policy_id: Option<String>,
    /// Those with a label: `name` or `name:value`, several with commas between.
    tag: Option<String>,
    /// Those with a key on an agent.
    agent_id: Option<String>,
    /// Those in force whose version ends before this moment: neither revoked nor archived.
    #[param(format = DateTime)]
    expires_before: Option<String>,
    /// Those in force whose version ends after this moment.
    #[param(format = DateTime)]
    expires_after: Option<String>,
    /// Those made after this moment.
    #[param(format = DateTime)]
    created_after: Option<String>,
    /// Those last edited after this moment.
    #[param(format = DateTime)]
    updated_after: Option<String>,
    /// `deployment`: those whose deployment failed and is tried again.
    problem: Option<String>,
    /// `name`, `commonName`, `environment`, `createdAt`, `updatedAt` or `expiresAt` (also
    /// `notAfter`); with `-` before it, the last first. Anything else is `createdAt`, but `status`
    /// is refused: it is derived, and can be filtered by.
    sort: Option<String>,
    /// `true`: the last first.
    sort_desc: Option<String>,
}

impl CertificateQuery {
    fn filter(&self) -> Result<CertificateFilter, Problem> {
        let status = given(self.status.as_deref()).map(|word| {
            Status::of_word(word).ok_or_else(|| {
                let words = Status::ALL.map(Status::as_str).join(", ");
                let word: String = word.chars().take(64).collect();
                Problem::bad("status", format!("{word:?} is none of {words}"))
            })
        });
        let text = |text: &Option<String>| given(text.as_deref()).map(str::to_owned);
        let time = |field, text: &Option<String>| moment(field, text.as_deref());
        Ok(CertificateFilter {
            status: status.transpose()?,
            environment: text(&self.environment),
            owner_id: text(&self.owner_id),
            team_id: text(&self.team_id),
            issuer_id: text(&self.issuer_id),
            profile_id: text(&self.profile_id),
            policy_id: text(&self.renewal_policy_id),
            tags: tags(self.tag.as_deref())?,
            agent_id: text(&self.agent_id),
            expires_before: time("expires_before", &self.expires_before)?,
            expires_after: time("expires_after", &self.expires_after)?,
            created_after: time("created_after", &self.created_after)?,
            updated_after: time("updated_after", &self.updated_after)?,
        })
    }

    /// (order, the last first)
    fn order(&self) -> Result<(Order, bool), Problem> {
        let sort = self.sort.as_deref().unwrap_or_default();
        let (minus, sort) = match sort.strip_prefix('-') {
            Some(sort) => (true, sort),
            None => (false, sort),
        };
        let order = match sort {
            "name" => Order::Name,
            "commonName" => Order::CommonName,
            "environment" => Order::Environment,
            "expiresAt" | "notAfter" => Order::Expiry,
            "updatedAt" => Order::Updated,
            "status" => {
                let message = "a status follows from the moment, so nothing is in its order: \
                               filter by status, or sort by expiresAt";
                return Err(Problem::bad("sort", message));
            }
            _ => Order::Created,
        };
        let backward = minus || self.sort_desc.as_deref() == Some("true");
        Ok((order, backward))
    }
}

/// `name:value` or `name`, several with commas between: certificates that have all of them.
fn tags(text: Option<&str>) -> Result<Vec<(String, Option<String>)>, Problem> {
    let text = given(text).unwrap_or_default();
    let words: Vec<&str> = text.split(',').filter(|word| !word.is_empty()).collect();
    if words.len() > MOST_TAGS {
        return Err(Problem::bad("tag", format!("{MOST_TAGS} at most")));
    }
    let tag = |word: &str| match word.split_once(':') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    };
    Ok(words.into_iter().map(tag).collect())
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
    params(CertificateQuery, Pages),
    responses((status = 200, body = List<CertificateShape>)),
    security(("key" = ["cert.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<CertificateQuery>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let (filter, (order, backward)) = (query.filter()?, query.order()?);
    let place = pages.place();
    let (rows, total, next) = match given(query.problem.as_deref()) {
        None => {
            let list = CertificateList {
                filter,
                order,
                backward,
                cursor: place.cursor.map(str::to_owned),
                skip: place.skip,
                limit: place.limit,
            };
            let CertificatePage { listed, next } = app.list_certificates(&who, &list).await?;
            (listed.rows, listed.total, next)
        }
        Some("deployment") if filter == CertificateFilter::default() => {
            let rows = app.failed_on_a_target(&who, usize::MAX).await?;
            let total = Some(rows.len() as u64);
            let page = rows.into_iter().skip(place.skip).take(place.limit);
            (page.collect(), total, None)
        }
        Some(_) => {
            let message = "`deployment` is the one there is, and stands without other filters";
            return Err(Problem::bad("problem", message));
        }
    };
    let now = app.now();
    let problems = app.problems(&rows).await?;
    let rows = rows.iter().zip(problems);
    let data = rows.map(|(c, problem)| listed(c, problem, now)).collect();
    Ok(pages.answer(place.list(data, total, next)))
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
    let shape = CertificateShape {
        warnings: app.warnings(&certificate).await?,
        ..CertificateShape::new(&certificate, certificate.status(app.now()))
    };
    Ok((StatusCode::CREATED, Json(shape)).into_response())
}

/// Edits a certificate: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/certificates/{id}",
    request_body = CertificateWish,
    responses((status = 200, body = CertificateShape), (status = 412)),
    security(("key" = ["cert.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(wish): Edit<CertificateWish>,
) -> Result<Versioned<CertificateShape>, Problem> {
    let id = id_in_path("certificate", &id)?;
    let targets = wish.target_ids.as_ref().map(|ids| {
        let ids = ids.iter().map(|id| id_in_field("target_ids", id));
        ids.collect::<Result<_, _>>()
    });
    let edit = CertificateEdit {
        issuer_id: optional_id("issuer_id", wish.issuer_id.as_ref())?,
        profile_id: optional_id(
            "certificate_profile_id",
            wish.certificate_profile_id.as_ref(),
        )?,
        policy_id: optional_id("renewal_policy_id", wish.renewal_policy_id.as_ref())?,
        targets: targets.transpose()?,
        name: wish.name,
        common_name: wish.common_name,
        sans: wish.sans,
        environment: wish.environment,
        owner_id: wish.owner_id,
        team_id: wish.team_id,
        tags: wish.tags,
        status: wish.status,
    };
    app.edit_certificate(&who, &id, &expected, &edit).await?;
    let view = app.edited_view(&who, &id).await?;
    Ok(Versioned::new(
        view.certificate.version(),
        CertificateShape::from(&view),
    ))
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
) -> Result<Versioned<CertificateShape>, Problem> {
    let id = id_in_path("certificate", &id)?;
    let view = app.view(&who, &id).await?;
    Ok(Versioned::new(
        view.certificate.version(),
        CertificateShape::from(&view),
    ))
}

/// A certificate's versions, newest first, with their PEM.
#[utoipa::path(
    get,
    path = "/certificates/{id}/versions",
    params(Pages),
    responses((status = 200, body = List<VersionShape>)),
    security(("key" = ["cert.read"])),
)]
pub async fn versions(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let place = pages.numbered()?;
    let (rows, total) = app.versions(&who, &id, place.skip, place.limit).await?;
    let mut data = Vec::with_capacity(rows.len());
    for version in rows {
        let mut shape = VersionShape::from(&*version);
        shape.pem_chain = Some(app.fullchain_pem(&who, &version).await?);
        data.push(shape);
    }
    let next = place.next_of(total);
    Ok(pages.answer(place.list(data, Some(total), next)))
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
    params(Pages),
    responses((status = 200, body = List<TargetShape>)),
    security(("key" = ["cert.read"])),
)]
pub async fn deployments(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let rows = app.deployments(&who, &id).await?;
    pages.of(&rows, |d| TargetShape::from(d))
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
