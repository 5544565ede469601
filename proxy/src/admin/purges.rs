//! Purges that operators order, and the list of purges that were carried out.

use std::time::{Duration, UNIX_EPOCH};

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{AdminBody, JSON, TEXT, answer};
use crate::purge::{LoggedPurge, Notice, Purge, PurgeId, Target, Unfollowed};
use crate::store::Store;
use crate::way::Proxy;

const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");

/// The name of operators in the purge log.
const BY: &str = "admin";

/// Carries out the purge in a body.
pub(super) async fn purge<S: Store>(proxy: &Proxy<S>, body: &[u8]) -> Response<AdminBody<S>> {
    let purge = Notice::of(body).and_then(|notice| {
        let targets = notice.targets(|url| proxy.targets_of(url))?;
        Ok(Purge { targets, is_soft: notice.is_soft(), by: BY.to_owned() })
    });
    let purge = match purge {
        Ok(purge) => purge,
        Err(fault @ Unfollowed::Type(_)) => {
            return answer(StatusCode::NOT_IMPLEMENTED, TEXT, format!("501: {fault}\n"));
        }
        Err(fault) => return answer(StatusCode::BAD_REQUEST, TEXT, format!("400: {fault}\n")),
    };
    match proxy.purge(purge).await {
        Ok(id) => {
            answer(StatusCode::OK, JSON, format!("{}\n", json!({ "status": "ok", "id": id.to_string() })))
        }
        Err(error) => unavailable(format!("503: the purge is not in the log: {error}\n")),
    }
}

/// The purges after the one that a query names, a line of JSON for each target.
pub(super) async fn list<S: Store>(proxy: &Proxy<S>, query: &str) -> Response<AdminBody<S>> {
    let since = query.split('&').find_map(|pair| pair.strip_prefix("since=")).unwrap_or("0-0");
    let Ok(since) = since.parse::<PurgeId>() else {
        return answer(StatusCode::BAD_REQUEST, TEXT, "400: since names no purge\n");
    };
    match proxy.purges_after(since).await {
        Ok(purges) => answer(StatusCode::OK, JSON_LINES, purges.iter().map(lines).collect::<String>()),
        Err(error) => unavailable(format!("503: the log of purges cannot be read: {error}\n")),
    }
}

fn lines(logged: &LoggedPurge) -> String {
    let LoggedPurge { id, purge } = logged;
    let time = UNIX_EPOCH + Duration::from_millis(id.milliseconds);
    let line = |target: &Target| {
        let line = json!({
            "id": id.to_string(),
            "time": humantime::format_rfc3339_millis(time).to_string(),
            "kind": target.kind.name(),
            "value": String::from_utf8_lossy(&target.value),
            "soft": purge.is_soft,
            "by": purge.by,
        });
        format!("{line}\n")
    };
    purge.targets.iter().map(line).collect()
}

fn unavailable<S>(text: String) -> Response<AdminBody<S>> {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
