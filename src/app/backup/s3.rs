//! Backups in a bucket of S3, or of what speaks like it.

use super::BackupFailure;
use crate::{
    clock::{Clock, SystemClock},
    config::S3Config,
    net::{CallError, Dialer, Guard, HttpClient, HttpOptions, Resolver, Transport, Trust},
    sys::Pending,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{
        AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, ListObjectsV2,
        UploadPart,
    },
};
use std::{io::Read, sync::Arc, time::Duration};

/// A signed address is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// What is longer goes in parts of this size.
const PART: usize = 16 << 20;
/// One part is sent or read within this.
const LONGEST_CALL: Duration = Duration::from_secs(300);
/// The most parts that S3 takes.
const MOST_PARTS: u16 = 10_000;
/// The longest text of S3 that is told, in characters.
const MAX_SAID: usize = 300;

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
        })
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

    async fn send<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        method: http::Method,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>, S3Error> {
        let now = self.access.clock.now();
        let now = jiff::Timestamp::from_second(now.seconds());
        let now = now.map_err(|e| S3Error::Local(e.to_string()))?;
        let url = action.sign_with_time(GOOD_FOR, &now);
        let mut request = Request::builder().method(method).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body);
        let request = request.map_err(|e| S3Error::Address(e.to_string()))?;
        let response = self.access.http.call(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let says = String::from_utf8_lossy(response.body());
        Err(S3Error::Refused {
            status: response.status(),
            says: said(&says),
        })
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
        let creds = self.credentials.as_ref();
        let create = CreateMultipartUpload::new(&self.bucket, creds, &key);
        let created = self.send(&create, http::Method::POST, &[], Bytes::new());
        let created = text(created.await?)?;
        let created = CreateMultipartUpload::parse_response(&created);
        let created = created.map_err(|e| S3Error::Answer(e.to_string()))?;
        let upload = created.upload_id();
        let sent = self.parts(&key, upload, first, from).await;
        if sent.is_err() {
            // What is not completed is paid for; whether this succeeds changes nothing here.
            let abort = AbortMultipartUpload::new(&self.bucket, creds, &key, upload);
            let _ = self
                .send(&abort, http::Method::DELETE, &[], Bytes::new())
                .await;
        }
        sent
    }

    async fn parts(
        &self,
        key: &str,
        upload: &str,
        first: Bytes,
        mut from: impl Read,
    ) -> Result<u64, S3Error> {
        let creds = self.credentials.as_ref();
        let (mut etags, mut sent, mut body) = (Vec::new(), 0, first);
        for number in 1..=MOST_PARTS {
            if body.is_empty() {
                break;
            }
            sent += body.len() as u64;
            let action = UploadPart::new(&self.bucket, creds, key, number, upload);
            let answer = self.send(&action, http::Method::PUT, &[], body).await?;
            let etag = answer.headers().get(http::header::ETAG);
            let etag = etag.and_then(|etag| etag.to_str().ok());
            let etag = etag.ok_or_else(|| S3Error::Answer("it names no ETag".to_owned()))?;
            etags.push(etag.to_owned());
            body = part(&mut from)?;
        }
        if !body.is_empty() {
            return Err(S3Error::Local("it is longer than S3 takes".to_owned()));
        }
        let etags = etags.iter().map(String::as_str);
        let complete = CompleteMultipartUpload::new(&self.bucket, creds, key, upload, etags);
        let body = Bytes::from(complete.clone().body());
        let answer = self.send(&complete, http::Method::POST, &[], body).await?;
        // It may say "200 OK" and then that it failed.
        let status = answer.status();
        let says = text(answer)?;
        if says.contains("<Error>") {
            let says = said(&says);
            return Err(S3Error::Refused { status, says });
        }
        Ok(sent)
    }

    /// Puts a short object.
    ///
    /// # Errors
    /// When S3 does not take it.
    pub async fn put_bytes(&self, name: &str, bytes: Bytes) -> Result<u64, S3Error> {
        let key = self.key(name);
        let sum = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let sum = data_encoding::BASE64.encode(sum.as_ref());
        let mut action = self.bucket.put_object(self.credentials.as_ref(), &key);
        let header = "x-amz-checksum-sha256";
        action.headers_mut().insert(header, sum.clone());
        let size = bytes.len() as u64;
        self.send(&action, http::Method::PUT, &[(header, sum)], bytes)
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
            Err(S3Error::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(None),
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
            let headers = [("range", range)];
            let answer = self.send(&action, http::Method::GET, &headers, Bytes::new());
            let answer = match answer.await {
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

/// The next part of what is sent; short or empty at the end.
fn part(from: &mut impl Read) -> Result<Bytes, S3Error> {
    let mut part = Vec::new();
    from.take(PART as u64)
        .read_to_end(&mut part)
        .map_err(|e| S3Error::Local(e.to_string()))?;
    Ok(part.into())
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
