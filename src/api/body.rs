//! JSON bodies, read strictly: what would be passed over is refused by its name.

use super::{Problem, router::MAX_BODY};
use crate::domain::once::{Once, OnceKey};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use std::error::Error;
use tower_http::timeout::TimeoutError;
use utoipa::{
    PartialSchema,
    openapi::{RefOr, Schema},
};

/// A JSON object. A field that the type does not know is refused; the content type is not asked
/// for.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        strict(&whole(request, state).await?).map(Self)
    }
}

/// A JSON object as [`Body`] reads it, or nothing at all.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match whole(request, state).await? {
            none if none.is_empty() => Ok(Self(T::default())),
            bytes => strict(&bytes).map(Self),
        }
    }
}

/// What is to be made, as [`Body`] reads it, and the name that the caller gives to the request by
/// `Idempotency-Key`.
pub struct New<T>(pub T, pub Option<Once>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for New<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let key = once_key(request.headers())?;
        let mut hash = Context::new(&SHA256);
        for part in [request.method().as_str(), request.uri().path()] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        let bytes = whole(request, state).await?;
        let value = strict(&bytes)?;
        let once = key.map(|key| {
            hash.update(&bytes);
            let request_sha256 = HEXLOWER.encode(hash.finish().as_ref());
            Once {
                key,
                request_sha256,
            }
        });
        Ok(Self(value, once))
    }
}

/// The caller's name for the request.
pub fn once_key(headers: &HeaderMap) -> Result<Option<OnceKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::bad("Idempotency-Key", "it is there twice"));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    let key = text
        .parse()
        .map_err(|e| Problem::bad("Idempotency-Key", e))?;
    Ok(Some(key))
}

/// What is to change of a resource, as a JSON object. A client may send back the whole of what it was
/// shown: fields of [`Resource`](Edits::Resource) that do not change are passed over. Any other field
/// that the type does not know is refused.
pub struct Edit<T>(pub T);

/// A body of an edit.
pub trait Edits: DeserializeOwned {
    /// What is shown of the resource that is edited.
    type Resource: PartialSchema;
}

impl<T: Edits, S: Send + Sync> FromRequest<S> for Edit<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (value, mut unknown) = object(&whole(request, state).await?)?;
        let shown = T::Resource::schema();
        if let RefOr::T(Schema::Object(shown)) = &shown {
            unknown.retain(|name| !shown.properties.contains_key(name));
        }
        none_unknown(&unknown)?;
        Ok(Self(value))
    }
}

/// What an agent says. An agent newer than this server may say more than the server knows, which
/// is passed over.
pub struct AgentBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for AgentBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (value, _) = object(&whole(request, state).await?)?;
        Ok(Self(value))
    }
}

/// A field that other programs send and that means nothing here. It is taken, and passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|_| Self)
    }
}

impl Serialize for Ignored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    // What says that it is too long is not waited for.
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let read = Bytes::from_request(request, state).await;
    read.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ if is_pause(&e) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body: nothing more of it came for 10 seconds; send it again",
        ),
        status => {
            let message = "body: it ended early, or its length or chunks are wrong";
            Problem::new(status, message)
        }
    })
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body: at most 1 MiB is accepted, 4 KiB to enrol",
    )
}

/// Whether a body was given up because nothing more of it came.
fn is_pause(e: &BytesRejection) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(e);
    while let Some(e) = cause {
        if e.is::<TimeoutError>() {
            return true;
        }
        cause = e.source();
    }
    false
}

fn strict<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let (value, unknown) = object(bytes)?;
    none_unknown(&unknown)?;
    Ok(value)
}

fn none_unknown(unknown: &[String]) -> Result<(), Problem> {
    if unknown.is_empty() {
        return Ok(());
    }
    let (shown, more) = unknown.split_at(unknown.len().min(MAX_NAMED));
    let more = match more.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let message = "this call has no such field; /api/v1/openapi.json names those it has";
    Err(Problem::bad(&(shown.join(", ") + &more), message))
}

/// So many unknown fields are named in a refusal.
const MAX_NAMED: usize = 10;
/// The longest name of a field that is repeated in a refusal, in characters.
const MAX_NAME: usize = 64;

/// The object, and the fields that were passed over.
fn object<T: DeserializeOwned>(bytes: &Bytes) -> Result<(T, Vec<String>), Problem> {
    // A struct would also be read from a list, field by field.
    if bytes.trim_ascii_start().first().is_some_and(|b| *b != b'{') {
        return Err(Problem::bad("body", "a JSON object is expected"));
    }
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        // An optional object stands in a path as `?`.
        let path = path.to_string().replace(".?", "");
        unknown.push(path.chars().take(MAX_NAME).collect());
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = serde_ignored::deserialize(tracked, &mut note);
    let value = value.and_then(|value| json.end().map(|()| value));
    let value = value.map_err(|e| match serde_json::from_slice::<Value>(bytes) {
        // What is no JSON at all may have been read as far as a field that is missed.
        Err(syntax) => Problem::bad("body", format!("this is not JSON: {syntax}")),
        Ok(_) => {
            // A field that is missing or there twice is named by the message alone.
            let path: String = track.path().to_string().chars().take(MAX_NAME).collect();
            Problem::bad(if path == "." { "body" } else { &path }, e)
        }
    })?;
    Ok((value, unknown))
}
