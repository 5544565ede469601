//! The listener for operators: health, metrics and status, and what an operator changes.
//!
//! `access` decides on a request by its head alone, in a fixed order; `listener` has the connections, on a thread of their
//! own, so that no client of theirs holds up a worker; `status` and `metrics` are written from one [`Report`]; `page` shows
//! the status to people.

mod access;
mod client;
mod listener;
mod metrics;
mod page;
mod purges;
mod status;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use server::Workers;
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::config::{Admin, StoreUrl};
use crate::store::Store;
use crate::way::{Proxy, Report, now};
use access::{Access, Denied, Route};
pub use client::post;
pub use listener::{AdminPort, RunningAdmin};
use metrics::Exposition;
use page::StatusEvents;
use status::Program;

/// A worker that does not come to a task for so long does not answer clients either. Less than the 3 s of `proxy health`.
const ANSWER: Duration = Duration::from_secs(2);

/// The largest body of a request.
const BODY: usize = 1 << 20;

/// For the whole body of a request.
const BODY_TIME: Duration = Duration::from_secs(5);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A text, or a stream of events.
type AdminBody = Either<Full<Bytes>, StatusEvents>;

/// Has the proxy answer.
type Asked<T> = Box<dyn Fn(T) -> Pin<Box<dyn Future<Output = Response<AdminBody>> + Send>> + Send + Sync>;

/// Answers operators.
pub struct AdminServer {
    /// Makes the report on the proxy.
    report: Box<dyn Fn() -> Report + Send + Sync>,
    /// Carries out the purge in a body.
    purge: Asked<Bytes>,
    /// Lists the purges for a query.
    purges: Asked<String>,
    workers: Arc<Workers>,
    access: Access,
    program: Program,
    /// Whether load balancers are to take the proxy out.
    is_draining: AtomicBool,
}

impl AdminServer {
    /// For a proxy and the workers that it serves on, as the program starts.
    pub fn new<S: Store>(
        admin: &Admin,
        store: StoreUrl,
        proxy: Arc<Proxy<S>>,
        workers: Arc<Workers>,
    ) -> Self {
        let (purging, listing) = (proxy.clone(), proxy.clone());
        Self {
            report: Box::new(move || proxy.report()),
            purge: Box::new(move |body| {
                let proxy = purging.clone();
                Box::pin(async move { purges::purge(&proxy, &body).await })
            }),
            purges: Box::new(move |query| {
                let proxy = listing.clone();
                Box::pin(async move { purges::list(&proxy, &query).await })
            }),
            workers,
            access: Access::new(admin),
            program: Program { started: Instant::now(), loaded_at: now(), store },
            is_draining: AtomicBool::new(false),
        }
    }

    fn drain(&self) {
        if !self.is_draining.swap(true, Ordering::Relaxed) {
            info!("draining: /readyz answers 503");
        }
    }

    fn status(&self) -> Value {
        status::json(&(self.report)(), &self.program, self.workers.count())
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<AdminBody>, Infallible> {
        let (head, body) = request.into_parts();
        let route = match self.access.admit(&head) {
            Ok(route) => route,
            Err(denied) => return Ok(refusal(denied, head.uri.path())),
        };
        let body = match route.changes() {
            true => read(body).await,
            false => Ok(Bytes::new()),
        };
        let body = match body {
            Ok(body) => body,
            Err(refused) => return Ok(refused),
        };
        let query = head.uri.query().unwrap_or_default();
        let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(self.perform(route, accept, query, body).await)
    }

    async fn perform(
        self: &Arc<Self>,
        route: Route,
        accept: &str,
        query: &str,
        body: Bytes,
    ) -> Response<AdminBody> {
        match route {
            Route::Page => page::page(StatusCode::OK),
            Route::Health => match timeout(ANSWER, self.workers.each(|| async {})).await {
                Ok(()) => answer(StatusCode::OK, TEXT, "ok\n"),
                Err(_) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "a worker does not answer\n"),
            },
            Route::Ready => match self.is_draining.load(Ordering::Relaxed) {
                false => answer(StatusCode::OK, TEXT, "ready\n"),
                true => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
            },
            Route::Metrics => {
                let exposition = Exposition::accepted(accept);
                let text = metrics::text(&(self.report)(), &self.program, exposition);
                answer(StatusCode::OK, exposition.content_type(), text)
            }
            Route::Status => answer(StatusCode::OK, JSON, format!("{:#}\n", self.status())),
            Route::Events => {
                let mut response = answer(StatusCode::OK, EVENTS, "");
                *response.body_mut() = Either::Right(StatusEvents::new(self.clone()));
                response
            }
            Route::Purge => (self.purge)(body).await,
            Route::Purges => (self.purges)(query.to_owned()).await,
            Route::Drain => {
                self.drain();
                answer(StatusCode::OK, TEXT, "draining\n")
            }
        }
    }
}

/// Reads a body, within its bounds.
async fn read(body: Incoming) -> Result<Bytes, Response<AdminBody>> {
    let too_large = || answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "413: a body of more than 1 MiB\n");
    if body.size_hint().lower() > BODY as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIME, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(answer(StatusCode::BAD_REQUEST, TEXT, "400: the body broke off\n")),
        Err(_) => Err(answer(StatusCode::REQUEST_TIMEOUT, TEXT, "408: the body comes too slowly\n")),
    }
}

fn answer(status: StatusCode, kind: HeaderValue, text: impl Into<Bytes>) -> Response<AdminBody> {
    let mut response = Response::new(Either::Left(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page is also what a browser gets without the token: it asks for it.
fn refusal(denied: Denied, path: &str) -> Response<AdminBody> {
    let status = denied.status();
    let mut response = match denied {
        Denied::Token if path == Route::Page.path() => page::page(status),
        _ => answer(status, TEXT, format!("{}: {denied}\n", status.as_str())),
    };
    match denied {
        Denied::Method(route) => {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
        }
        Denied::Token => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Denied::Host | Denied::Path | Denied::Origin => {}
    }
    response
}
