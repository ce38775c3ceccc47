//! The OpenAPI document, put together from the annotations of the handlers.
//!
//! A handler says what is its own: path, parameters, body, what it answers when all is well, and in
//! `security` who may call it.
//!
//! | `security(...)` | who | `x-permission` |
//! |---|---|---|
//! | `("key" = ["cert.read"])` | a caller whose roles hold this permission | `cert.read` |
//! | `("key" = [])` | any caller who is known | `authenticated` |
//! | `("agent" = [])` | the agent named in the path | `agent` |
//! | `()` | anyone | `none` |
//!
//! What follows from that is added here, once for all: tags, names, refusals. A refusal that does not
//! follow is named by its status alone, e.g. `(status = 502)`.

use super::router;
use crate::access::Permission;
use axum::{
    body::Bytes,
    http::{Method, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};
use utoipa::ToSchema;

/// An answer that says what went wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct Failure {
    /// The status in words, e.g. `Not Found`.
    error: String,
    /// What happened, with the field it is about and the remedy.
    message: String,
    /// The request, as the header `X-Request-ID` and the server's log name it.
    request_id: String,
}

/// The document, made at its first use: it depends on nothing but the program.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = serde_json::to_vec_pretty(&document()).unwrap_or_default();
    text.push(b'\n');
    text.into()
});

/// What a caller needs for each operation that takes a body, by method and path.
static NEEDED: LazyLock<BTreeMap<String, Permission>> = LazyLock::new(|| {
    let mut needed = BTreeMap::new();
    for (path, item) in members(&mut document()["paths"]) {
        for (method, operation) in members(item) {
            let permission = operation["x-permission"].as_str().unwrap_or_default();
            if let Ok(permission) = permission.parse()
                && operation.get("requestBody").is_some()
            {
                needed.insert(format!("{method} {path}"), permission);
            }
        }
    }
    needed
});

/// The permission, on anything at all, without which nobody sends a body to a route.
pub(super) fn needed_to_send(method: &Method, route: &str) -> Option<Permission> {
    if *method == Method::GET {
        return None;
    }
    let method = method.as_str().to_lowercase();
    NEEDED.get(&format!("{method} {route}")).copied()
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "show",
    responses((status = 200, body = Object)),
    security(()),
)]
pub async fn serve() -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, DOCUMENT.clone())
}

/// What the whole API is, before its operations.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(Failure)))]
struct Whole;

/// Every operation, with all that is answered.
pub fn document() -> Value {
    let operations = router::operations().into_openapi();
    let mut whole = <Whole as utoipa::OpenApi>::openapi();
    whole.merge(operations);
    let mut document = serde_json::to_value(whole).unwrap_or_default();
    complete(&mut document);
    document
}

/// The refusals that more than one operation knows: name, status, what it means.
const REFUSALS: [(&str, StatusCode, &str); 15] = [
    (
        "BadRequest",
        StatusCode::BAD_REQUEST,
        "A field or parameter cannot be taken; the message names it and the remedy",
    ),
    (
        "Unauthorized",
        StatusCode::UNAUTHORIZED,
        "No credential, or none that is known",
    ),
    (
        "Forbidden",
        StatusCode::FORBIDDEN,
        "The caller may not do this; the message names the permission",
    ),
    ("NotFound", StatusCode::NOT_FOUND, "There is no such thing"),
    (
        "TimedOut",
        StatusCode::REQUEST_TIMEOUT,
        "Nothing more came of the body for long",
    ),
    (
        "Conflict",
        StatusCode::CONFLICT,
        "It contradicts what is there; the message says what",
    ),
    (
        "Gone",
        StatusCode::GONE,
        "The agent is retired and can stop for good",
    ),
    (
        "Stale",
        StatusCode::PRECONDITION_FAILED,
        "It was changed since the answer whose tag `If-Match` names",
    ),
    (
        "TooLarge",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is larger than this call takes",
    ),
    (
        "Unprocessable",
        StatusCode::UNPROCESSABLE_ENTITY,
        "What is stored does not allow it",
    ),
    (
        "HeadersTooLarge",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The headers are larger than any call takes",
    ),
    (
        "TooMany",
        StatusCode::TOO_MANY_REQUESTS,
        "A limit in time is reached; `Retry-After` says for how long",
    ),
    (
        "ServerError",
        StatusCode::INTERNAL_SERVER_ERROR,
        "A fault of the server; its log says which, by the request id",
    ),
    (
        "BadGateway",
        StatusCode::BAD_GATEWAY,
        "The issuer did not issue",
    ),
    (
        "Busy",
        StatusCode::SERVICE_UNAVAILABLE,
        "Too much is going on, or the server is about to stop; `Retry-After` says when to try again",
    ),
];

/// Adds what follows from the operations' own words.
fn complete(document: &mut Value) {
    document["info"] = json!({
        "title": "certctl",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Certificate lifecycle manager. `x-permission` of an operation names what \
                        its caller needs: a permission, `authenticated`, `agent` (the agent named \
                        in the path) or `none`.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    let mut tags = BTreeSet::new();
    for (path, item) in members(&mut document["paths"]) {
        for (method, operation) in members(item) {
            let tag = tag_of(path);
            describe(operation, method, path, tag);
            tags.insert(tag.to_owned());
        }
    }
    for (name, schema) in members(&mut document["components"]["schemas"]) {
        if let Some(row) = name.strip_prefix("List_") {
            let row = format!("#/components/schemas/{row}");
            schema["properties"]["data"]["items"] = json!({ "$ref": row });
        }
    }
    document["tags"] = tags.iter().map(|name| json!({ "name": name })).collect();
    let refusals = REFUSALS.map(|(name, _, meaning)| (name.to_owned(), refusal(name, meaning)));
    document["components"]["responses"] = Map::from_iter(refusals).into();
    document["components"]["securitySchemes"] = json!({
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key, `ctl_...`. A browser's session cookie does as well.",
        },
        "agent": {
            "type": "http",
            "scheme": "bearer",
            "description": "An agent's own credential, `cta_<agent>.<secret>`.",
        },
    });
}

fn refusal(name: &str, meaning: &str) -> Value {
    let mut answer = json!({
        "description": meaning,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    });
    if matches!(name, "TooMany" | "Busy") {
        let seconds = json!({"type": "integer", "minimum": 1});
        answer["headers"] = json!({"Retry-After": {"schema": seconds, "description": "Seconds"}});
    }
    answer
}

/// The resource that a path is about: its first word below the base.
fn tag_of(path: &str) -> &str {
    let below = path.strip_prefix("/api/v1/").unwrap_or(path);
    let mut words = below.split('/').filter(|word| !word.is_empty());
    match words.next().unwrap_or_default() {
        ".well-known" => words.next().unwrap_or_default(),
        word => word.trim_end_matches(".json"),
    }
}

/// Gives an operation its tag, a name of its own, its permission and the refusals it may answer.
fn describe(operation: &mut Value, method: &str, path: &str, tag: &str) {
    let name = operation["operationId"].as_str().unwrap_or_default();
    operation["operationId"] = format!("{tag}_{name}").into();
    operation["tags"] = json!([tag]);
    let needs = operation["security"][0].clone();
    let permission = match (needs.get("key"), needs.get("agent")) {
        (Some(key), _) => key[0].as_str().unwrap_or("authenticated"),
        (_, Some(_)) => "agent",
        _ => "none",
    };
    operation["x-permission"] = permission.into();
    let changes = method != "get";
    let known = permission != "none";
    let in_path = path.contains('{');
    let body = operation.get("requestBody").is_some();
    let answers = |status: StatusCode| match status {
        StatusCode::UNAUTHORIZED => known,
        StatusCode::FORBIDDEN => known || changes,
        StatusCode::NOT_FOUND => in_path,
        StatusCode::CONFLICT => changes,
        StatusCode::GONE => permission == "agent",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => body,
        StatusCode::BAD_REQUEST
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::SERVICE_UNAVAILABLE => true,
        _ => false,
    };
    let said = &mut operation["responses"];
    for (name, status, _) in REFUSALS {
        let own = said.get(status.as_str());
        let (named, whole) = own.map_or((false, false), |own| (true, own["content"].is_object()));
        if !whole && (named || answers(status)) {
            said[status.as_str()] = json!({"$ref": format!("#/components/responses/{name}")});
        }
    }
    for (status, answer) in members(said) {
        let described = answer.get("description").is_some_and(|text| text != "");
        if !described && answer.get("$ref").is_none() {
            let status = StatusCode::from_bytes(status.as_bytes()).ok();
            let reason = status.and_then(|status| status.canonical_reason());
            answer["description"] = reason.unwrap_or_default().into();
        }
    }
    if !changes {
        operation["responses"]["304"] = json!({"description": "The caller has it already"});
    }
    let makes = operation["responses"].get("201").is_some() && known;
    let mut parameters = match operation["parameters"].take() {
        Value::Array(parameters) => parameters,
        _ => Vec::new(),
    };
    for parameter in &mut parameters {
        name_in_path(parameter, tag);
    }
    if makes {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "The caller's name for this request, e.g. a UUID. Repeated within a day, \
                            it is answered with what it made the first time.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
        }));
    }
    if operation["responses"].get("412").is_some() {
        parameters.push(json!({
            "name": "If-Match",
            "in": "header",
            "required": false,
            "description": "The `ETag` of the answer that this follows from: it is refused when \
                            what was answered has changed since. `*` is whatever is there.",
            "schema": {"type": "string"},
        }));
    }
    if !changes {
        parameters.push(json!({
            "name": "If-None-Match",
            "in": "header",
            "required": false,
            "description": "The `ETag` of the answer that the caller has.",
            "schema": {"type": "string"},
        }));
    }
    operation["parameters"] = parameters.into();
}

/// Says what an id in a path names.
fn name_in_path(parameter: &mut Value, tag: &str) {
    if parameter["in"] != "path" || parameter.get("description").is_some() {
        return;
    }
    let of = match parameter["name"].as_str().unwrap_or_default() {
        "id" => tag.trim_end_matches('s'),
        other => other,
    };
    parameter["description"] = format!("The {of}").into();
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}
