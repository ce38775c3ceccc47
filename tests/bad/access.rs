//! Keys, roles and sessions.

use super::*;

const KEYS: &str = "/api/v1/auth/keys";
const ROLES: &str = "/api/v1/auth/roles";

/// The same with another method.
fn by_method(method: &'static str, case: Case) -> Case {
    Case { method, ..case }
}

#[tokio::test]
async fn keys() {
    let world = World::new().await;
    let good = json!({"name": "scraper", "role_ids": ["r-viewer"]});
    let new =
        |name, field: &str, value: Value, says| body(name, KEYS, with(&good, field, value), says);
    let made = world.app.post(KEYS, good.clone()).await.expect(201);
    let id = crate::support::text(&made["id"]);
    let rotate = |name, value: Value, says| {
        body(
            name,
            &format!("{KEYS}/{id}/rotate"),
            value.to_string(),
            says,
        )
    };
    let grant = |name, value: Value, says| {
        body(name, &format!("{KEYS}/{id}/roles"), value.to_string(), says)
    };
    let none = |call: &str| format!("{KEYS}/none{call}");
    let delete = |name, at: &str, status, says| by_method("DELETE", path(name, at, status, says));
    world
        .refuse(vec![
            body("no name", KEYS, without(&good, "name"), &["name"]),
            new("an empty name", "name", json!(""), &["name"]),
            new("a name with a space", "name", json!("a b"), &["name"]),
            new("a name with a NUL", "name", json!("a\0"), &["name"]),
            new("a long name", "name", json!("x".repeat(300)), &["name"]),
            new(
                "a name that is taken",
                "name",
                json!("scraper"),
                &["name: ", "the same one already"],
            )
            .status(409),
            new("no role", "role_ids", json!([]), &["role_ids"]),
            new(
                "an unknown role",
                "role_ids",
                json!(["r-none"]),
                &["r-none"],
            )
            .status(404),
            new(
                "a role that is no list",
                "role_ids",
                json!("r-viewer"),
                &["role_ids"],
            ),
            new(
                "a moment that is none",
                "expires_at",
                json!("tomorrow"),
                &["expires_at"],
            ),
            new(
                "a moment that has passed",
                "expires_at",
                json!("2020-01-01T00:00:00Z"),
                &["expires_at"],
            ),
            new(
                "a moment of another type",
                "expires_at",
                json!(1),
                &["expires_at"],
            ),
            new("an unknown field", "colour", json!(1), &["colour"]),
            rotate(
                "an overlap below nothing",
                json!({"overlap_seconds": -1}),
                &["overlap_seconds"],
            ),
            rotate(
                "an overlap of years",
                json!({"overlap_seconds": 1_000_000_000}),
                &["overlap_seconds"],
            ),
            rotate(
                "an overlap that is a word",
                json!({"overlap_seconds": "1h"}),
                &["overlap_seconds"],
            ),
            grant("no role to grant", json!({}), &["role_id"]),
            grant(
                "an empty role to grant",
                json!({"role_id": ""}),
                &["role_id"],
            ),
            grant(
                "an unknown scope",
                json!({"role_id": "r-viewer", "scope_type": "planet"}),
                &["scope_type"],
            ),
            grant(
                "a scope without its id",
                json!({"role_id": "r-viewer", "scope_type": "issuer"}),
                &["scope_id"],
            ),
            body("rotation of nothing", &none("/rotate"), "{}", &["none"]).status(404),
            body(
                "a role for nothing",
                &none("/roles"),
                "{\"role_id\": \"r-viewer\"}",
                &["none"],
            )
            .status(404),
            path("no key", &none(""), 404, &["none"]),
            delete("no key to delete", &none(""), 404, &["none"]),
        ])
        .await;
}

#[tokio::test]
async fn roles() {
    let world = World::new().await;
    let good = json!({"name": "deployers", "description": "d", "permissions": []});
    let new =
        |name, field: &str, value: Value, says| body(name, ROLES, with(&good, field, value), says);
    let made = world.app.post(ROLES, good.clone()).await.expect(201);
    let id = crate::support::text(&made["id"]);
    let built_in = format!("{ROLES}/r-viewer");
    let permit = |name, at: &str, value: Value, says| {
        body(name, &format!("{at}/permissions"), value.to_string(), says)
    };
    let own = format!("{ROLES}/{id}");
    let delete = |name, at: &str, status, says| by_method("DELETE", path(name, at, status, says));
    world
        .refuse(vec![
            body("no name", ROLES, without(&good, "name"), &["name"]),
            new("an empty name", "name", json!(""), &["name"]),
            new("a name with a line end", "name", json!("a\nb"), &["name"]),
            new("a long name", "name", json!("x".repeat(300)), &["name"]),
            new(
                "a name that is taken",
                "name",
                json!("deployers"),
                &["name: ", "the same one already"],
            )
            .status(409),
            new(
                "a description of 10000",
                "description",
                json!("x".repeat(10_000)),
                &["description"],
            ),
            permit(
                "an unknown permission",
                &own,
                json!({"permission": "cert.eat"}),
                &["permission", "cert.eat"],
            ),
            permit("no permission", &own, json!({}), &["permission"]),
            permit(
                "a permission of another type",
                &own,
                json!({"permission": 1}),
                &["permission"],
            ),
            permit(
                "more for a built-in role",
                &built_in,
                json!({"permission": "cert.edit"}),
                &["r-viewer"],
            )
            .status(409),
            by_method(
                "PUT",
                body(
                    "an edit of a built-in role",
                    &built_in,
                    good.to_string(),
                    &["r-viewer"],
                ),
            )
            .status(409),
            delete("a built-in role", &built_in, 409, &["r-viewer"]),
            delete(
                "no role to delete",
                &format!("{ROLES}/none"),
                404,
                &["none"],
            ),
            path("no role", &format!("{ROLES}/none"), 404, &["none"]),
            delete(
                "no session to end",
                "/api/v1/auth/sessions/none",
                404,
                &["session", "none"],
            ),
        ])
        .await;
}
