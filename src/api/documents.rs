//! Routes of documents that say how things are to be: profiles, renewal policies, policy rules,
//! owners and teams. They are the same for all; what differs stands in the table at the end.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{
        List, OwnerShape, OwnerWish, ProfileShape, ProfileWish, RenewalPolicyShape,
        RenewalPolicyWish, ReplanShape, RuleShape, RuleWish, TeamShape, TeamWish,
    },
};
use crate::{
    app::{App, Configuration},
    domain::{Owner, PolicyRule, Profile, RenewalPolicy, Team},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Every route of theirs.
pub(super) fn operations() -> OpenApiRouter<Arc<App>> {
    profiles::operations()
        .merge(renewal_policies::operations())
        .merge(policies::operations())
        .merge(owners::operations())
        .merge(teams::operations())
}

/// A module for each: `module: document, shape, wish`, its paths, its name with and without an
/// article, what is needed to read, edit and delete it, how a new one begins, and `replan` where
/// certificates are planned anew after an edit.
macro_rules! documents {
    ($($module:ident: $document:ty, $shape:ident, $wish:ty,
       $all:literal, $one:literal, $a:literal, $name:literal,
       $read:literal, $edit:literal, $delete:literal,
       |$wished:ident, $id:ident, $now:ident| $new:expr $(, $replan:ident)?;)*) => {$(
        mod $module {
            use super::*;

            pub(super) fn operations() -> OpenApiRouter<Arc<App>> {
                OpenApiRouter::new()
                    .routes(routes!(list, create))
                    .routes(routes!(show, edit, delete))
            }

            #[utoipa::path(
                get,
                path = $all,
                summary = concat!("Every ", $name, ", by name."),
                params(Pages),
                responses((status = 200, body = List<$shape>)),
                security(("key" = [$read])),
            )]
            async fn list(
                State(app): State<Arc<App>>,
                Caller(who): Caller,
                Query(pages): Query<Pages>,
            ) -> Result<Response, Problem> {
                let place = pages.place();
                let rows = (place.skip, place.limit);
                let (listed, next) = app.configured::<$document>(&who, place.cursor, rows).await?;
                let data = listed.rows.iter().map(|row| $shape::from(&**row));
                Ok(pages.answer(place.list(data.collect(), listed.total, next)))
            }

            #[utoipa::path(
                post,
                path = $all,
                summary = concat!("Makes ", $a, " ", $name, "."),
                request_body = $wish,
                responses((status = 201, body = $shape)),
                security(("key" = [$edit])),
            )]
            async fn create(
                State(app): State<Arc<App>>,
                Caller(who): Caller,
                New(wish, once): New<$wish>,
            ) -> Result<Response, Problem> {
                let id = optional_id("id", wish.id.as_ref())?;
                let made = app
                    .configure(&who, id.as_ref(), once.as_ref(), |$id, $now| {
                        let $wished = &wish;
                        $new
                    })
                    .await?;
                Ok((StatusCode::CREATED, Json($shape::from(&made))).into_response())
            }

            #[utoipa::path(
                get,
                path = $one,
                summary = concat!("One ", $name, "."),
                responses((status = 200, body = $shape)),
                security(("key" = [$read])),
            )]
            async fn show(
                State(app): State<Arc<App>>,
                Caller(who): Caller,
                Path(id): Path<String>,
            ) -> Result<Versioned<$shape>, Problem> {
                let id = id_in_path(<$document>::KIND, &id)?;
                let row = app.configuration::<$document>(&who, &id).await?;
                let shape = $shape {
                    $($replan: match row.rests() {
                        Some(edited) => {
                            let replan = app.replanning(&who, &edited).await?;
                            replan.as_ref().map(ReplanShape::from)
                        }
                        None => None,
                    },)?
                    ..$shape::from(&*row)
                };
                Ok(Versioned::new(row.version(), shape))
            }

            #[utoipa::path(
                put,
                path = $one,
                summary = concat!("Edits ", $a, " ", $name, ": what is absent stays as it is."),
                request_body = $wish,
                responses((status = 200, body = $shape), (status = 412)),
                security(("key" = [$edit])),
            )]
            async fn edit(
                State(app): State<Arc<App>>,
                Caller(who): Caller,
                Path(id): Path<String>,
                IfMatch(expected): IfMatch,
                Edit(wish): Edit<$wish>,
            ) -> Result<Versioned<$shape>, Problem> {
                let id = id_in_path(<$document>::KIND, &id)?;
                let row = app
                    .reconfigure::<$document>(&who, &id, &expected, &|old| wish.onto(old))
                    .await?;
                Ok(Versioned::new(row.version(), $shape::from(&*row)))
            }

            #[utoipa::path(
                delete,
                path = $one,
                summary = concat!("Deletes ", $a, " ", $name, " that nothing refers to."),
                responses((status = 204, description = "Deleted"), (status = 412)),
                security(("key" = [$delete])),
            )]
            async fn delete(
                State(app): State<Arc<App>>,
                Caller(who): Caller,
                Path(id): Path<String>,
                IfMatch(expected): IfMatch,
            ) -> Result<StatusCode, Problem> {
                let id = id_in_path(<$document>::KIND, &id)?;
                app.unconfigure::<$document>(&who, &id, &expected).await?;
                Ok(StatusCode::NO_CONTENT)
            }
        }
    )*};
}

documents! {
    profiles: Profile, ProfileShape, ProfileWish,
        "/profiles", "/profiles/{id}", "a", "profile",
        "profile.read", "profile.edit", "profile.delete",
        |wish, id, now| wish.onto(Profile::new(id, now)), replan;
    renewal_policies: RenewalPolicy, RenewalPolicyShape, RenewalPolicyWish,
        "/renewal-policies", "/renewal-policies/{id}", "a", "renewal policy",
        "policy.read", "policy.edit", "policy.delete",
        |wish, id, now| wish.onto(RenewalPolicy::new(id, now)), replan;
    policies: PolicyRule, RuleShape, RuleWish,
        "/policies", "/policies/{id}", "a", "policy rule",
        "policy.read", "policy.edit", "policy.delete",
        |wish, id, now| wish.onto(PolicyRule::new(id, wish.wants()?, now));
    owners: Owner, OwnerShape, OwnerWish,
        "/owners", "/owners/{id}", "an", "owner",
        "owner.read", "owner.edit", "owner.delete",
        |wish, id, now| wish.onto(Owner::new(id, now));
    teams: Team, TeamShape, TeamWish,
        "/teams", "/teams/{id}", "a", "team",
        "team.read", "team.edit", "team.delete",
        |wish, id, now| wish.onto(Team::new(id, now));
}
