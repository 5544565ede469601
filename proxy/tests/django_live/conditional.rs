//! `[django] conditional_get`: the ETag and the 304 of Django's `ConditionalGetMiddleware`, which runs beside the proxy.

use crate::pages::{NEVER, names, verdict};
use crate::site::{ALL, Cache, NEW, PLAIN, REDIS, Site, ask};
use crate::support::{Reply, Scene};
use crate::venv::djangos;

const MORE: &[u8] = b"X-A: 1\r\nX-B: 23\r\nAccept: */*\r\nCookie: a=1; b=2\r\nAccept-Language: de\r\n";

/// What Django keeps of a page in a 304 (`_not_modified` in `django/utils/cache.py`).
const KEPT: [&str; 6] = ["cache-control", "content-location", "etag", "expires", "last-modified", "vary"];

#[tokio::test]
async fn tags_and_304s_are_those_of_djangos_middleware() {
    for django in djangos() {
        let site = Site::start(&django, "{\"CONDITIONAL\": true}", &[]).await;
        let (mut tried, mut wrong) = (0, Vec::new());
        for cache in [PLAIN, REDIS] {
            let proxy = site.proxy(cache, &format!("conditional_get = true\n{NEW}"), ALL).await;
            let all_headers: &[&[u8]] = if cache == PLAIN { &[b"", MORE] } else { &[MORE] };
            for name in names().iter().filter(|name| !NEVER.contains(&name.as_str())) {
                for headers in all_headers {
                    let result = conditions(&site, &proxy, cache, name, headers).await;
                    wrong.extend(result.err().map(|error| format!("{}/{name}: {error}", cache.0)));
                    tried += 1;
                }
            }
        }
        verdict(&django.version, tried, &wrong);
    }
}

/// Compares the answers to conditional requests for a page that Django has filled, and for one that the proxy has.
async fn conditions(
    site: &Site,
    proxy: &Scene,
    cache: Cache,
    name: &str,
    headers: &[u8],
) -> Result<(), String> {
    for first in ["django", "proxy"] {
        let target = format!("/{}/{name}/?of={}&w={first}", cache.0, headers.len());
        let filled = match first {
            "django" => site.get(&target, headers).await,
            _ => ask(proxy, &target, headers).await,
        };
        // Only the proxy refuses pages with cookies.
        if first == "proxy" && !filled.header("set-cookie").is_empty() {
            continue;
        }
        let (ours, theirs) = (ask(proxy, &target, headers).await, site.get(&target, headers).await);
        let is_hit = ours.header("x-cache") == "HIT" && ours.body == filled.body;
        let difference = site.difference(&ours, &theirs);
        let difference = difference.or_else(|| (!is_hit).then(|| format!("no hit: {}", ours.cache())));
        if let Some(difference) = difference {
            return Err(format!("filled by {first}: {difference}"));
        }
        if filled.header("etag") != ours.header("etag") {
            return Err(format!("filled by {first}: with ETag {:?}", filled.header("etag")));
        }
        for condition in asked(&ours) {
            let headers = [headers, condition.as_bytes(), b"\r\n"].concat();
            let (ours, theirs) = (ask(proxy, &target, &headers).await, site.get(&target, &headers).await);
            if (kept(&ours), &ours.body) != (kept(&theirs), &theirs.body) {
                return Err(format!("{condition}: {:?}, Django {:?}", kept(&ours), kept(&theirs)));
            }
        }
    }
    Ok(())
}

/// Conditions on a page.
fn asked(page: &Reply) -> Vec<String> {
    let mut all = vec!["If-None-Match: \"other\"".to_owned()];
    let etag = page.header("etag");
    if !etag.is_empty() {
        let tags = [etag.to_owned(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()];
        all.extend(tags.iter().map(|tags| format!("If-None-Match: {tags}")));
    }
    let modified = page.header("last-modified");
    if !modified.is_empty() {
        all.push(format!("If-Modified-Since: {modified}"));
        all.push("If-Modified-Since: Tue, 20 Oct 2015 07:28:00 GMT".to_owned());
    }
    all
}

/// The status, and the headers that a 304 keeps.
fn kept(reply: &Reply) -> (u16, Vec<&str>) {
    (reply.status(), KEPT.iter().map(|name| reply.header(name)).collect())
}
