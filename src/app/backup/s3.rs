//! Backups in a bucket of S3, or of what speaks like it.

use super::BackupFailure;
use crate::{
    clock::{Clock, Rng, SystemClock},
    config::S3Config,
    crypt::OsRng,
    net::{
        CallError, Deadline, Dialer, Guard, HttpClient, HttpOptions, Resolver, Transport, Trust,
    },
    sys::Pending,
};
use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use ring::digest::{SHA256, digest};
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{
        AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, HeadObject,
        ListObjectsV2, UploadPart,
    },
};
use std::{fmt::Write, io::Read, pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A signed address is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// What is longer goes in parts of this size.
const PART: usize = 16 << 20;
/// A part is sent or read, or an upload completed, within this.
const LONGEST_CALL: Duration = Duration::from_secs(300);
/// What carries little, as a list, is answered within this.
const SHORT_CALL: Duration = Duration::from_secs(30);
/// What a stop leaves to be done is done within this.
const LAST_CALL: Duration = Duration::from_secs(5);
/// The most parts that S3 takes.
const MOST_PARTS: u16 = 10_000;
/// The longest text of S3 that is told, in characters.
const MAX_SAID: usize = 300;
/// A call that failed for a reason that may pass is made so often.
const TRIES: u32 = 4;
/// After the first such call; after each further one, four times as long.
const FIRST_REST: Duration = Duration::from_millis(250);
/// Names what is sent by its SHA-256, so that what arrives changed is refused.
const SUM: &str = "x-amz-checksum-sha256";
/// What S3 says, beside by its status, when the same call may succeed.
const PASSING: &[&str] = &[
    "BadDigest",
    "InternalError",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
];

/// Says which part of an object is read.
const RANGE: &str = "range";

/// Waits.
pub type Rest = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// A way to S3.
#[derive(Clone)]
pub struct S3Access {
    /// The address of the service, such as `https://s3.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Key id and secret; without them requests are not signed.
    pub keys: Option<(String, secrecy::SecretString)>,
    /// Sends requests.
    pub http: Arc<dyn Transport>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes, so that not all who failed together try again together.
    pub rng: Arc<dyn Rng>,
    /// Waits before a call is made again.
    pub rest: Rest,
    /// Cancelled when the process stops: nothing is sent or fetched from then on.
    pub stop: CancellationToken,
}

/// An object.
pub struct Object {
    /// Its key, after the prefix.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// A bucket, and a prefix of all keys in it.
pub struct Place<'a> {
    access: &'a S3Access,
    bucket: Bucket,
    credentials: Option<Credentials>,
    prefix: &'a str,
}

/// Why S3 did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// No such address.
    #[error("{0}")]
    Address(String),
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A call failed each time.
    #[error("{0}; it was tried {TRIES} times")]
    Each(Box<S3Error>),
    /// It refused.
    #[error("it answers {status}: {says}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says.
        says: String,
    },
    /// Its answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Answer(String),
    /// What is on its way here.
    #[error("{0}")]
    Local(String),
    /// The process stops.
    #[error("the server stops")]
    Stopped,
}

impl S3Error {
    /// Whether the same call may succeed in a moment.
    fn passes(&self) -> bool {
        match self {
            Self::Call(e) => matches!(
                e,
                CallError::Dial(_) | CallError::Timeout { .. } | CallError::Broken(_)
            ),
            Self::Refused { status, says } => {
                let failed = status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED;
                let passing = PASSING.contains(&code_of(says));
                failed || *status == StatusCode::TOO_MANY_REQUESTS || passing
            }
            _ => false,
        }
    }

    /// Whether what was named is not there.
    fn is_missing(&self) -> bool {
        let Self::Refused { status, says } = self else {
            return false;
        };
        *status == StatusCode::NOT_FOUND || code_of(says) == "NoSuchUpload"
    }
}

impl S3Access {
    /// As it is configured.
    ///
    /// # Errors
    /// When the machine trusts no CA.
    pub fn new(config: &S3Config) -> Result<Self, BackupFailure> {
        let options = HttpOptions {
            timeout: LONGEST_CALL,
            max_body: 2 * PART,
            ..HttpOptions::default()
        };
        let dialer = Dialer::new(Resolver::system(), Guard::Any);
        let http = HttpClient::foreign(dialer, &Trust::System, options);
        let http = http.map_err(|e| BackupFailure::Sink {
            sink: config.endpoint.clone(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            keys: config.keys.clone(),
            http: Arc::new(http),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            rest: Arc::new(|time| Box::pin(tokio::time::sleep(time))),
            stop: CancellationToken::new(),
        })
    }

    /// How long to wait after a call failed for the nth time: between half of a time that grows
    /// and all of it.
    fn rest_after(&self, n: u32) -> Duration {
        let most = FIRST_REST * 4_u32.pow(n - 1);
        let mut bits = [0];
        self.rng.fill(&mut bits);
        most / 2 + most * u32::from(bits[0]) / 510
    }

    /// A bucket.
    ///
    /// # Errors
    /// When there can be no such bucket.
    pub fn place<'a>(&'a self, bucket: &str, prefix: &'a str) -> Result<Place<'a>, S3Error> {
        let address = |e: String| S3Error::Address(format!("{}: {e}", self.endpoint));
        let endpoint = self.endpoint.parse();
        let endpoint = endpoint.map_err(|e| address(format!("{e}")))?;
        let region = self.region.clone();
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region);
        let credentials = self.keys.as_ref().map(|(key, secret)| {
            use secrecy::ExposeSecret;
            Credentials::new(key.clone(), secret.expose_secret())
        });
        Ok(Place {
            access: self,
            bucket: bucket.map_err(|e| address(format!("{e:?}")))?,
            credentials,
            prefix,
        })
    }
}

impl Place<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the process goes on.
    fn goes_on(&self) -> Result<(), S3Error> {
        match self.access.stop.is_cancelled() {
            true => Err(S3Error::Stopped),
            false => Ok(()),
        }
    }

    /// Makes a call, and again where it fails for a reason that may pass; until the process stops.
    async fn send<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        method: http::Method,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>, S3Error> {
        let limit = limit_of(&method);
        self.until_stopped(self.tried(action, (method, limit), headers, body))
            .await
    }

    async fn until_stopped<T>(
        &self,
        call: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, S3Error> {
        let done = self.access.stop.run_until_cancelled(call).await;
        done.unwrap_or(Err(S3Error::Stopped))
    }

    /// Makes a call that a stop does not drop, for it may be carried out all the same: its answer
    /// is then waited for a little longer.
    async fn send_to_end<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        method: http::Method,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>, S3Error> {
        let limit = limit_of(&method);
        let mut sent = pin!(self.tried(action, (method, limit), headers, body));
        match self.access.stop.run_until_cancelled(&mut sent).await {
            Some(answer) => answer,
            None => {
                let answer = timeout(LAST_CALL, sent).await;
                answer.unwrap_or(Err(S3Error::Stopped))
            }
        }
    }

    /// Makes a call, each time within a limit.
    async fn tried<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        (method, limit): (http::Method, Duration),
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>, S3Error> {
        for n in 1.. {
            match self.call(action, (&method, limit), headers, &body).await {
                Err(e) if e.passes() && n < TRIES => {
                    tracing::info!(error = %e, "a call of S3 is made again");
                    (self.access.rest)(self.access.rest_after(n)).await;
                }
                Err(e) if e.passes() => return Err(S3Error::Each(Box::new(e))),
                outcome => return outcome,
            }
        }
        unreachable!("the last try returns")
    }

    async fn call<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        (method, limit): (&http::Method, Duration),
        headers: &[(&str, String)],
        body: &Bytes,
    ) -> Result<Response<Bytes>, S3Error> {
        let now = self.access.clock.now();
        let now = jiff::Timestamp::from_second(now.seconds());
        let now = now.map_err(|e| S3Error::Local(e.to_string()))?;
        let url = action.sign_with_time(GOOD_FOR, &now);
        let mut request = Request::builder().method(method.clone()).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request = request.extension(Deadline(limit));
        let request = request.body(body.clone());
        let request = request.map_err(|e| S3Error::Address(e.to_string()))?;
        let response = self.access.http.call(request).await?;
        let status = response.status();
        // To what takes long it says "200 OK" at once, and then perhaps that it failed.
        if status.is_success() && *method != http::Method::POST {
            return Ok(response);
        }
        let says = String::from_utf8_lossy(response.body());
        if status.is_success() && !says.contains("<Error>") {
            return Ok(response);
        }
        let says = said(&says);
        Err(S3Error::Refused { status, says })
    }

    /// Puts an object whole, or not at all.
    ///
    /// # Errors
    /// When S3 does not take it.
    pub async fn put(&self, name: &str, mut from: impl Read) -> Result<u64, S3Error> {
        let key = self.key(name);
        let first = part(&mut from)?;
        if first.len() < PART {
            return self.put_bytes(name, first).await;
        }
        self.goes_on()?;
        let creds = self.credentials.as_ref();
        let mut create = CreateMultipartUpload::new(&self.bucket, creds, &key);
        let sums = ("x-amz-checksum-algorithm", "SHA256".to_owned());
        create.headers_mut().insert(sums.0, sums.1.clone());
        let sums = [sums];
        let created = self.send_to_end(&create, http::Method::POST, &sums, Bytes::new());
        let created = text(created.await?)?;
        let created = CreateMultipartUpload::parse_response(&created);
        let created = created.map_err(|e| S3Error::Answer(e.to_string()))?;
        let upload = created.upload_id();
        let sent = self.parts(name, &key, upload, first, from).await;
        if sent.is_err() {
            // What is not completed is paid for; whether this succeeds changes nothing here.
            let abort = AbortMultipartUpload::new(&self.bucket, creds, &key, upload);
            let aborted = self.send_to_end(&abort, http::Method::DELETE, &[], Bytes::new());
            drop(aborted.await);
        }
        sent
    }

    async fn parts(
        &self,
        name: &str,
        key: &str,
        upload: &str,
        first: Bytes,
        mut from: impl Read,
    ) -> Result<u64, S3Error> {
        let creds = self.credentials.as_ref();
        let (mut whole, mut sent, mut body) = (String::new(), 0, first);
        for number in 1..=MOST_PARTS {
            if body.is_empty() {
                break;
            }
            sent += body.len() as u64;
            let mut action = UploadPart::new(&self.bucket, creds, key, number, upload);
            let sum = sum_of(&body);
            action.headers_mut().insert(SUM, sum.clone());
            let headers = [(SUM, sum.clone())];
            let answer = self.send(&action, http::Method::PUT, &headers, body);
            let answer = answer.await?;
            let etag = answer.headers().get(http::header::ETAG);
            let etag = etag.and_then(|etag| etag.to_str().ok());
            let etag = etag.ok_or_else(|| S3Error::Answer("it names no ETag".to_owned()))?;
            let etag = etag.replace('&', "&amp;").replace('<', "&lt;");
            let _ = write!(
                whole,
                "<Part><ETag>{etag}</ETag><ChecksumSHA256>{sum}</ChecksumSHA256>\
                 <PartNumber>{number}</PartNumber></Part>"
            );
            body = part(&mut from)?;
        }
        if !body.is_empty() {
            return Err(S3Error::Local("it is longer than S3 takes".to_owned()));
        }
        // The body is ours, since that of the crate has no sums.
        let none = std::iter::empty();
        let complete = CompleteMultipartUpload::new(&self.bucket, creds, key, upload, none);
        let space = "http://s3.amazonaws.com/doc/2006-03-01/";
        let body =
            format!("<CompleteMultipartUpload xmlns=\"{space}\">{whole}</CompleteMultipartUpload>");
        self.goes_on()?;
        let completed = self.send_to_end(&complete, http::Method::POST, &[], body.into());
        match completed.await {
            Ok(_) => Ok(sent),
            // An earlier try may have succeeded, and its answer been lost.
            Err(e) if e.is_missing() && self.size_of(name).await? == Some(sent) => Ok(sent),
            Err(e) => Err(e),
        }
    }

    /// The size of an object, where there is one.
    async fn size_of(&self, name: &str) -> Result<Option<u64>, S3Error> {
        let key = self.key(name);
        let action = HeadObject::new(&self.bucket, self.credentials.as_ref(), &key);
        let answer = self.send(&action, http::Method::HEAD, &[], Bytes::new());
        match answer.await {
            Ok(answer) => {
                let size = answer.headers().get(http::header::CONTENT_LENGTH);
                Ok(size.and_then(|size| size.to_str().ok()?.parse().ok()))
            }
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Puts a short object.
    ///
    /// # Errors
    /// When S3 does not take it.
    pub async fn put_bytes(&self, name: &str, bytes: Bytes) -> Result<u64, S3Error> {
        let key = self.key(name);
        let sum = sum_of(&bytes);
        let mut action = self.bucket.put_object(self.credentials.as_ref(), &key);
        action.headers_mut().insert(SUM, sum.clone());
        let size = bytes.len() as u64;
        self.send(&action, http::Method::PUT, &[(SUM, sum)], bytes)
            .await?;
        Ok(size)
    }

    /// The objects under the prefix.
    ///
    /// # Errors
    /// When S3 does not list them.
    pub async fn list(&self) -> Result<Vec<Object>, S3Error> {
        let mut objects = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = self.bucket.list_objects_v2(self.credentials.as_ref());
            action.with_prefix(self.prefix);
            if let Some(token) = &next {
                action.with_continuation_token(token.clone());
            }
            let answer = self.send(&action, http::Method::GET, &[], Bytes::new());
            let page = ListObjectsV2::parse_response(&text(answer.await?)?);
            let page = page.map_err(|e| S3Error::Answer(e.to_string()))?;
            for object in page.contents {
                if let Some(name) = object.key.strip_prefix(self.prefix) {
                    objects.push(Object {
                        name: name.to_owned(),
                        bytes: object.size.unwrap_or(0),
                    });
                }
            }
            match page.next_continuation_token {
                Some(token) => next = Some(token),
                None => return Ok(objects),
            }
        }
    }

    /// The first bytes of an object.
    ///
    /// # Errors
    /// When S3 does not give them.
    pub async fn beginning(&self, name: &str, bytes: usize) -> Result<Bytes, S3Error> {
        let key = self.key(name);
        let action = self.bucket.get_object(self.credentials.as_ref(), &key);
        let headers = [(RANGE, format!("bytes=0-{}", bytes.saturating_sub(1)))];
        let answer = self.send(&action, http::Method::GET, &headers, Bytes::new());
        Ok(answer.await?.into_body())
    }

    /// A short object; `None` where there is none.
    ///
    /// # Errors
    /// When S3 does not give it.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, S3Error> {
        let key = self.key(name);
        let action = self.bucket.get_object(self.credentials.as_ref(), &key);
        let answer = self.send(&action, http::Method::GET, &[], Bytes::new());
        match answer.await {
            Ok(answer) => Ok(Some(answer.into_body())),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads an object into a file, a part at a time.
    ///
    /// # Errors
    /// When S3 does not give it, or the file cannot be written.
    pub async fn fetch(&self, name: &str, into: &mut dyn Pending) -> Result<(), S3Error> {
        let key = self.key(name);
        let mut from = 0_u64;
        loop {
            let action = self.bucket.get_object(self.credentials.as_ref(), &key);
            let range = format!("bytes={from}-{}", from + PART as u64 - 1);
            let headers = [(RANGE, range)];
            let how = (http::Method::GET, LONGEST_CALL);
            let answer = self.tried(&action, how, &headers, Bytes::new());
            let answer = match self.until_stopped(answer).await {
                // The one before was the last, and of full size.
                Err(S3Error::Refused { status, .. })
                    if status == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 =>
                {
                    return Ok(());
                }
                answer => answer?,
            };
            let whole = answer.status() == StatusCode::OK;
            let body = answer.into_body();
            into.write_all(&body)
                .map_err(|e| S3Error::Local(e.to_string()))?;
            from += body.len() as u64;
            if whole || body.len() < PART {
                return Ok(());
            }
        }
    }

    /// Deletes an object; none there is success.
    ///
    /// # Errors
    /// When S3 does not delete it.
    pub async fn delete(&self, name: &str) -> Result<(), S3Error> {
        let key = self.key(name);
        let action = self.bucket.delete_object(self.credentials.as_ref(), &key);
        self.send(&action, http::Method::DELETE, &[], Bytes::new())
            .await?;
        Ok(())
    }
}

/// What is sent may be a part, and completing an upload takes long.
fn limit_of(method: &http::Method) -> Duration {
    match *method {
        http::Method::PUT | http::Method::POST => LONGEST_CALL,
        _ => SHORT_CALL,
    }
}

/// The next part of what is sent; short or empty at the end.
fn part(from: &mut impl Read) -> Result<Bytes, S3Error> {
    let mut part = Vec::new();
    from.take(PART as u64)
        .read_to_end(&mut part)
        .map_err(|e| S3Error::Local(e.to_string()))?;
    Ok(part.into())
}

/// The code in what S3 says.
fn code_of(says: &str) -> &str {
    says.split(':').next().unwrap_or_default()
}

/// The SHA-256 of what is sent, as S3 takes it.
fn sum_of(bytes: &[u8]) -> String {
    BASE64.encode(digest(&SHA256, bytes).as_ref())
}

fn text(answer: Response<Bytes>) -> Result<String, S3Error> {
    let text = String::from_utf8(answer.into_body().to_vec());
    text.map_err(|_| S3Error::Answer("it is no text".to_owned()))
}

/// What S3 says of an error: code and message, out of its XML.
fn said(text: &str) -> String {
    let of = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once("</").map(|(inside, _)| inside)
    };
    let said = match (of("Code"), of("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.to_owned(),
    };
    said.chars().take(MAX_SAID).collect()
}
