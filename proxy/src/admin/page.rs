//! The page for operators: one document that sends requests to its own listener only, and the stream of figures that it shows.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{AdminBody, AdminServer, answer};
use crate::store::Store;

/// Between two events of the stream.
const PERIOD: Duration = Duration::from_secs(1);

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The page. Only the style and the script with the nonce of this answer are allowed, and they may send requests to the
/// listener only.
pub(super) fn page<S>(status: StatusCode) -> Response<AdminBody<S>> {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let text = include_str!("page/page.html")
        .replace("{style}", include_str!("page/page.css"))
        .replace("{script}", &[include_str!("page/draw.js"), include_str!("page/page.js")].concat())
        .replace("{nonce}", &nonce);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = answer(status, HTML, text);
    let headers = response.headers_mut();
    headers.extend(HeaderValue::try_from(policy).map(|policy| (CONTENT_SECURITY_POLICY, policy)));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The status once a second, as server-sent events. If a client does not read them, no further event is made until it does.
pub(super) struct StatusEvents<S> {
    admin: Arc<AdminServer<S>>,
    ticks: Interval,
}

impl<S> StatusEvents<S> {
    pub(super) fn new(admin: Arc<AdminServer<S>>) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { admin, ticks }
    }
}

impl<S: Store> Body for StatusEvents<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(context));
        let event = format!("data: {}\n\n", self.admin.status());
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
