//! Bodies that nobody has read when the answer is ready. In HTTP/2 the stream would then be reset
//! behind the answer, which RFC 9113 (section 8.1) allows; there are clients that lose the answer.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

/// So many bytes are read at most ...
const MOST: usize = 2 << 20;
/// ... within this time.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads what a request that is refused has left of its body, before the refusal is sent.
pub async fn read(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent(Arc::clone(&body)));
    let response = next.run(Request::from_parts(parts, lent)).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let rest = Lent(body);
        // Whoever sends on and on is answered all the same.
        let _ = tokio::time::timeout(LONGEST, rest.read()).await;
    }
    response
}

/// A body that comes back.
struct Lent(Arc<Mutex<Body>>);

impl Lent {
    async fn read(mut self) {
        let mut read = 0;
        while let Some(Ok(frame)) = self.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST {
                return;
            }
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.size_hint()
    }
}
