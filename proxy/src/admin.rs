//! The listener for operators: health, metrics and status, and orders that change something.
//!
//! `access` decides on a request by its head alone, in a fixed order; `listener` has the connections, on a thread of their
//! own, so that a slow operator never holds up a worker; `status` and `metrics` are written from one [`View`]; `page` shows
//! the status to people.

mod access;
mod client;
mod listener;
mod metrics;
mod order;
mod page;
mod purges;
mod status;
mod view;

use std::convert::Infallible;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use server::{LogFilter, Workers};
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::config::Faults;
use crate::reload::Service;
use crate::store::Store;
use crate::way::now;
use access::{Access, Denied, Route};
pub use client::post;
pub use listener::{AdminPort, RunningAdmin};
use metrics::Exposition;
use order::LogOrder;
use page::StatusEvents;
use view::{Started, View};

/// A worker that does not run a task within this time does not answer clients either. It is less than the 3 s of `proxy
/// health`.
const ANSWER: Duration = Duration::from_secs(2);

/// The largest body of a request.
const BODY: usize = 1 << 20;

/// The time for the whole body of a request.
const BODY_TIME: Duration = Duration::from_secs(5);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A text, or a stream of events.
type AdminBody<S> = Either<Full<Bytes>, StatusEvents<S>>;

/// Answers operators.
pub struct AdminServer<S> {
    service: Arc<Service<S>>,
    workers: Arc<Workers>,
    started: Started,
    /// The level of the program's log.
    log: LogFilter,
    /// Whether load balancers should send no more requests.
    is_draining: AtomicBool,
}

impl<S: Store> AdminServer<S> {
    /// Answers for a proxy that serves on these workers. Created as the program starts.
    pub fn new(service: Arc<Service<S>>, workers: Arc<Workers>, log: LogFilter) -> Self {
        let started = Started { at: Instant::now(), time: now() };
        Self { service, workers, started, log, is_draining: AtomicBool::new(false) }
    }

    fn drain(&self) {
        if !self.is_draining.swap(true, Ordering::Relaxed) {
            info!("draining: /readyz answers 503");
        }
    }

    fn status(&self) -> Value {
        status::json(&self.view(), self.workers.count())
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AdminBody<S>>, Infallible> {
        let (head, body) = request.into_parts();
        let settings = self.service.settings();
        let access = settings.config.admin.as_ref().map(Access);
        let route = match access.map_or(Err(Denied::Path), |access| access.admit(&head)) {
            Ok(route) => route,
            Err(denied) => return Ok(refusal(denied, head.uri.path())),
        };
        let body = match route.changes() {
            true => match read(body).await {
                Ok(body) => body,
                Err(refused) => return Ok(refused),
            },
            false => Bytes::new(),
        };
        Ok(self.perform(route, &head, &body).await)
    }

    async fn perform(self: &Arc<Self>, route: Route, head: &Parts, body: &[u8]) -> Response<AdminBody<S>> {
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
                let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
                let exposition = Exposition::accepted(accept.unwrap_or_default());
                let text = metrics::text(&self.view(), exposition);
                answer(StatusCode::OK, exposition.content_type(), text)
            }
            Route::Status => json(StatusCode::OK, &self.status()),
            Route::Events => {
                let mut response = answer(StatusCode::OK, EVENTS, "");
                *response.body_mut() = Either::Right(StatusEvents::new(self.clone()));
                response
            }
            Route::Purge => purges::purge(&*self.service.handler().proxy(), body).await,
            Route::Purges => {
                let query = head.uri.query().unwrap_or_default();
                purges::list(&*self.service.handler().proxy(), query).await
            }
            Route::Drain => {
                self.drain();
                answer(StatusCode::OK, TEXT, "draining\n")
            }
            Route::Config => json(StatusCode::OK, &self.service.settings().config.leaves.json()),
            Route::Explain => self.explain(head.uri.query().unwrap_or_default()).await,
            Route::Reload => self.reload().await,
            Route::Log => match self.set_level(body) {
                Ok(()) => answer(StatusCode::OK, TEXT, "ok\n"),
                Err(fault) => unreadable(&fault),
            },
        }
    }

    /// Explains a request as `proxy explain --json` does, on a worker, which has connections to the store.
    async fn explain(&self, query: &str) -> Response<AdminBody<S>> {
        let asked = match order::explain(query) {
            Ok(asked) => asked,
            Err(fault) => return unreadable(&fault),
        };
        let proxy = self.service.handler().proxy();
        let explained = async move { proxy.explain(&asked, Ipv4Addr::LOCALHOST.into()).await };
        match self.workers.next().spawn(explained).await {
            Ok(Ok(explanation)) => match serde_json::to_string_pretty(&explanation) {
                Ok(text) => answer(StatusCode::OK, JSON, text + "\n"),
                Err(error) => failed(&error),
            },
            Ok(Err(fault)) => unreadable(&fault),
            Err(error) => failed(&error),
        }
    }

    fn set_level(&self, body: &[u8]) -> Result<(), String> {
        let order = LogOrder::read(body)?;
        self.log.set_for(&order.level, order.time())
    }

    /// The state of the program.
    fn view(&self) -> View {
        View {
            report: self.service.handler().proxy().report(),
            clients: self.service.clients().totals(),
            certificates: self.service.certificate_expiries(),
            issued: self.service.issued_names(),
            started: self.started,
            settings: self.service.settings(),
            is_last_reload_good: self.service.is_last_reload_good(),
            log_lines_dropped: self.service.log_lines_dropped(),
        }
    }

    async fn reload(&self) -> Response<AdminBody<S>> {
        let service = self.service.clone();
        match tokio::task::spawn_blocking(move || service.reload()).await {
            Ok(Ok(generation)) => json(StatusCode::OK, &json!({ "generation": generation })),
            Ok(Err(Faults(faults))) => json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "faults": faults })),
            Err(error) => failed(&error),
        }
    }
}

/// Reads a body, within its bounds.
async fn read<S>(body: Incoming) -> Result<Bytes, Response<AdminBody<S>>> {
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

fn answer<S>(status: StatusCode, kind: HeaderValue, text: impl Into<Bytes>) -> Response<AdminBody<S>> {
    let mut response = Response::new(Either::Left(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json<S>(status: StatusCode, value: &Value) -> Response<AdminBody<S>> {
    answer(status, JSON, format!("{value:#}\n"))
}

/// The answer to a request that cannot be read.
fn unreadable<S>(fault: &str) -> Response<AdminBody<S>> {
    answer(StatusCode::BAD_REQUEST, TEXT, format!("400: {fault}\n"))
}

/// The answer if a task of the program panicked, which is in the log.
fn failed<S>(error: &dyn Error) -> Response<AdminBody<S>> {
    answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("500: {error}\n"))
}

/// Refuses a request. A browser without the token gets the page, which then asks for the token.
fn refusal<S>(denied: Denied, path: &str) -> Response<AdminBody<S>> {
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
