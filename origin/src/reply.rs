//! The answers, with the headers of Django's middleware in its order.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::negotiation::Accepted;
use crate::session_cookie;

pub(crate) type Reply = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// The tables that a listing shows.
const TAGS: HeaderValue =
    HeaderValue::from_static("housing.property housing.agent housing.office housing.location");
const NO_QUERIES: HeaderValue = HeaderValue::from_static("db;dur=0.0;desc=\"0 queries\"");

/// DRF's body for everything that is not a list.
#[derive(Serialize)]
pub(crate) struct Detail<'a> {
    pub(crate) detail: &'a str,
}

/// A view's answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize, accepted: Accepted) -> Reply {
    let body = to_json(value, accepted);
    let mut reply = new(status, JSON, body);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    framed(reply)
}

/// Writes JSON as DRF does: raw UTF-8, except for the two line separators that JavaScript once took for line ends.
fn to_json(value: &impl Serialize, accepted: Accepted) -> String {
    let mut bytes = Vec::new();
    let indent = " ".repeat(accepted.indent);
    let written = match accepted.indent {
        0 => value.serialize(&mut Serializer::new(&mut bytes)),
        _ => value.serialize(&mut Serializer::with_formatter(
            &mut bytes,
            PrettyFormatter::with_indent(indent.as_bytes()),
        )),
    };
    debug_assert!(written.is_ok(), "plain structs serialize into memory");
    let text = String::from_utf8(bytes).unwrap_or_default();
    text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// A listing, with the tags by which a cache finds it when a table has changed.
pub(crate) fn listing(page: &impl Serialize, accepted: Accepted) -> Reply {
    let mut reply = json(StatusCode::OK, page, accepted);
    reply.headers_mut().insert(SURROGATE_KEY, TAGS);
    reply
}

/// Django's page for a path without a view.
pub(crate) fn not_found() -> Reply {
    let text = "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>";
    framed(new(StatusCode::NOT_FOUND, HTML, page("Not Found", text)))
}

/// Django's page for a request that it refuses.
pub(crate) fn bad_request() -> Reply {
    new(StatusCode::BAD_REQUEST, HTML, page("Bad Request (400)", "<h1>Bad Request (400)</h1><p></p>"))
}

/// The redirect to the same path with a slash at its end.
pub(crate) fn redirect(location: &str) -> Reply {
    let mut reply = new(StatusCode::MOVED_PERMANENTLY, HTML, String::new());
    if let Ok(location) = HeaderValue::from_str(location) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}

/// A text of our own, not one of Django's: for `/healthz` and for faults of the database.
pub(crate) fn plain(status: StatusCode, text: &str) -> Reply {
    let mut reply = new(status, TEXT, format!("{text}\n"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

fn page(title: &str, text: &str) -> String {
    format!(
        "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>{title}</title>\n</head>\n<body>\n  {text}\n</body>\n</html>\n"
    )
}

fn new(status: StatusCode, content_type: HeaderValue, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// Adds the headers of XFrameOptionsMiddleware and CommonMiddleware.
pub(crate) fn framed(mut reply: Reply) -> Reply {
    let length = hyper::body::Body::size_hint(reply.body()).exact().unwrap_or(0);
    reply.headers_mut().insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    reply
}

/// Adds the headers that the outermost middleware gives to every answer, and `Server-Timing`, which Django does not have.
pub(crate) fn finish(reply: &mut Reply, request: &HeaderMap) {
    let dead = session_cookie::is_dead(request);
    let headers = reply.headers_mut();
    let timing = headers.remove(SERVER_TIMING).unwrap_or(NO_QUERIES);
    if dead {
        session_cookie::vary(headers);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(COOP, HeaderValue::from_static("same-origin"));
    if dead {
        session_cookie::delete(headers);
    }
    headers.insert(SERVER_TIMING, timing);
}

/// Adds the number of queries and their time.
pub(crate) fn time(reply: &mut Reply, timing: &str) {
    if let Ok(timing) = HeaderValue::from_str(timing) {
        reply.headers_mut().insert(SERVER_TIMING, timing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_by_drf() {
        let text = "\"\\/<>&\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}\u{e9}\u{2028}\u{2029}\u{feff}\u{1f600}";
        let expected =
            "\"\\\"\\\\/<>&\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}\u{e9}\\u2028\\u2029\u{feff}\u{1f600}\"";
        assert_eq!(to_json(&text, Accepted { indent: 0 }), expected);
    }

    #[test]
    fn indented_json_is_spaced_as_in_python() {
        let value = serde_json::json!({"a": [], "b": [1, {"c": null}]});
        assert_eq!(
            to_json(&value, Accepted { indent: 2 }),
            "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {\n      \"c\": null\n    }\n  ]\n}"
        );
        assert_eq!(to_json(&value, Accepted { indent: 0 }), "{\"a\":[],\"b\":[1,{\"c\":null}]}");
    }
}
