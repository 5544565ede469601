//! What real Django stored and served, case by case (`tests/django/semantics.json`, measured on 5.2.19): the proxy
//! before an origin that answers as the view did, once its `cache_page` is taken away.

use std::path::Path;
use std::sync::{Arc, Mutex};

use proxy::MemoryStore;
use serde_json::Value;

use crate::support::{Origin, Reply, Scene, Script, Seen};

/// Where the proxy decides otherwise on purpose: what it serves from the store, and why.
const DIFFERENT: &[(&str, &[bool], &str)] = &[
    ("set-cookie-no-vary-request-cookie", &[false, false], "a cookie is for one client"),
    ("set-cookie-two", &[false, false], "a cookie is for one client"),
    ("set-cookie-raw-header-vary-cookie", &[false, false], "a cookie is for one client"),
    ("csrf-token", &[false, false], "a cookie is for one client"),
    ("drf-cached-html", &[false, false], "a cookie is for one client"),
    ("vary-concatenation-collision", &[false, false], "values do not run together"),
    ("authorization", &[false, false], "credentials pass"),
    ("authorization-s-maxage", &[false, false], "credentials pass"),
    ("authorization-then-anonymous", &[false, false, false, false], "credentials pass"),
    ("anonymous-then-authorization", &[false, false], "credentials pass"),
    ("status-304", &[false, false], "nobody asked whether the page has changed: 502"),
    ("head-head", &[false, false], "a HEAD has no body to store"),
    ("view-disables-update", &[false, true], "a flag inside of Django is not seen on the wire"),
];

/// What says nothing of a proxy with the decorator's rules.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    (
        "cc-spaces",
        "a blank at the end of a value does not go over the wire; the policy's table has the others",
    ),
    ("cc-max-age-bad", "Django answers 500 of its own; the policy's table has it as absent"),
    ("cc-max-age-0-site", "the site-wide middleware lets max-age decide, the decorator does not"),
    ("site-middleware-csrf", "inside of the site-wide middleware"),
    ("timeout-1-expires", "waits; scenes::redis lets a key expire"),
    ("timeout-none", "a rule has a timeout"),
    ("timeout-none-max-age-7", "a rule has a timeout"),
    ("timeout-float", "a rule has whole seconds"),
    (
        "inm-weak-conditional-mw",
        "ConditionalGetMiddleware runs again on each hit of Django; the proxy gives whole pages",
    ),
    ("ims-match-conditional-mw", "the same"),
    ("inm-first-conditional-mw", "the same"),
    ("etag-generated-head-hit-conditional-mw", "the same: its ETag is stored, and so a HEAD has it too"),
    (
        "gzip-middleware-outside",
        "GZipMiddleware runs again on each hit of Django; the proxy stores what came over the wire",
    ),
];

/// Of one hop or one server, or of the proxy itself.
const NOT_COMPARED: [&str; 7] =
    ["date", "server", "connection", "keep-alive", "transfer-encoding", "x-cache", "cache-status"];

fn cases() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = std::fs::read(folder.join("tests/django/semantics.json")).unwrap();
    let mut cases: Vec<Value> = serde_json::from_slice(&here).unwrap();
    // Beside the project where it is; it may have more.
    if let Ok(beside) = std::fs::read(folder.join("../../shared/django-reference/semantics.json")) {
        let beside: Value = serde_json::from_slice(&beside).unwrap();
        cases.extend(beside["cases"].as_array().unwrap().iter().cloned());
    }
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_array().unwrap().iter();
    pairs.map(|pair| (text(&pair[0]).to_owned(), text(&pair[1]).to_owned())).collect()
}

/// The headers that the view sent, before `cache_page` dressed them.
fn undressed(case: &Value, request: &Value, observed: &Value) -> Vec<(String, String)> {
    let mut headers = pairs(&observed["headers"]);
    let is_dressed = case["stored"] == true || observed["status"] == 304 || case["options"]["timeout"] == 0;
    if !is_dressed || text(&request["target"]).starts_with("/never") {
        return headers;
    }
    let view = request["view"]["headers"].as_array().map(|_| pairs(&request["view"]["headers"]));
    let view = view.unwrap_or_default();
    let of_view = |name: &str| view.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    // The decorated views set their Cache-Control themselves.
    let is_decorated = text(&request["target"]).contains("cc10");
    headers.retain(|(name, _)| name != "Expires" && (name != "Cache-Control" || is_decorated));
    headers.extend(
        ["Expires", "Cache-Control"].iter().filter_map(|name| Some(((*name).to_owned(), of_view(name)?))),
    );
    headers.dedup_by(|a, b| a.0 == "Cache-Control" && b.0 == a.0);
    headers
}

/// The view's answer on the wire, with a body as long as it was.
fn answer(case: &Value, number: usize, method: &str) -> Vec<u8> {
    let observed = &case["observed"];
    // A request that Django served from its cache gets the answer of the one that filled it.
    let served = case["served_from_cache"].as_array().unwrap();
    let number = (0..=number).rev().find(|&number| served[number] == false).unwrap_or(0);
    let observed = &observed[number];
    let headers = undressed(case, &case["requests"][number], observed);
    let length =
        headers.iter().find(|(name, _)| name == "Content-Length").map(|(_, value)| value.parse().unwrap());
    let length: usize =
        length.unwrap_or_else(|| observed["body_length"].as_u64().unwrap().try_into().unwrap());
    let mut head = format!("HTTP/1.1 {} {}\r\n", observed["status"], text(&observed["reason"])).into_bytes();
    for (name, value) in
        headers.iter().filter(|(name, _)| name != "Content-Length" && name != "Transfer-Encoding")
    {
        let line = format!("{name}: {}\r\n", filled_in(value));
        head.extend(line.chars().map(|character| u8::try_from(u32::from(character)).unwrap()));
    }
    head.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
    if method != "HEAD" {
        head.extend(std::iter::repeat_n(b'x', length));
    }
    head
}

/// A date for each `{now+N}`: the same for both sides, since no one looks at the time here.
fn filled_in(value: &str) -> String {
    match (value.find("{now"), value.find('}')) {
        (Some(start), Some(end)) => {
            format!("{}Wed, 21 Oct 2099 07:28:00 GMT{}", &value[..start], &value[end + 1..])
        }
        _ => value.to_owned(),
    }
}

async fn ask(scene: &Scene, request: &Value) -> Reply {
    let (method, target) = (text(&request["method"]), text(&request["target"]));
    let mut message = format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n");
    for (name, value) in pairs(&request["headers"]) {
        message += &format!("{name}: {value}\r\n");
    }
    scene.send(&(message + "\r\n")).await
}

/// Lines to compare. Dates are dates, ages are numbers: their values are the policy's own tests'.
fn comparable(headers: &[(&str, &str)], vary: bool) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), *value))
        .filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()) && (vary || name != "vary"))
        .map(|(name, value)| match name.as_str() {
            "expires" if value.ends_with(" GMT") || value.starts_with("{now") => format!("{name}: a date"),
            "age" => format!("{name}: a number"),
            _ => format!("{name}: {}", filled_in(value)),
        })
        .collect();
    lines.sort();
    lines
}

async fn play(case: &Value) -> (Vec<Reply>, Vec<bool>) {
    let (asked, shared) = (Arc::new(Mutex::new(0)), Arc::new(case.clone()));
    let current = asked.clone();
    let origin = Origin::new(move |seen: &Seen, _| {
        let method = seen.line.split(' ').next().unwrap();
        Script::Answer(answer(&shared, *current.lock().unwrap(), method))
    })
    .await;
    // Without its default middleware a site adds nothing to a hit.
    let hit_headers = match text(&case["name"]) {
        "no-middleware-at-all" => {
            ["X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy"]
                .map(|name| format!("hit_headers.{name} = \"\"\n"))
                .concat()
        }
        _ => String::new(),
    };
    let settings = format!(
        "keys = \"django\"\nmax_entry = \"2MB\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n{hit_headers}\
         [[cache_page]]\npath = \"/*\"\ntimeout = {}\n",
        case["options"]["timeout"].as_u64().unwrap_or(60)
    );
    let scene = Scene::with(origin.address, MemoryStore::new(64 << 20), &settings).await;
    let (mut replies, mut served) = (Vec::new(), Vec::new());
    for (number, request) in case["requests"].as_array().unwrap().iter().enumerate() {
        *asked.lock().unwrap() = number;
        let reply = ask(&scene, request).await;
        served.push(reply.header("x-cache") == "HIT");
        replies.push(reply);
    }
    (replies, served)
}

/// How replies differ from what Django served, if they do.
fn difference(case: &Value, replies: &[Reply], served: &[bool]) -> Option<String> {
    if serde_json::json!(served) != case["served_from_cache"] {
        return Some(format!("served {served:?}, Django {}", case["served_from_cache"]));
    }
    replies.iter().zip(served).enumerate().find_map(|(number, (reply, served))| {
        let observed = &case["observed"][number];
        if i64::from(reply.status()) != observed["status"].as_i64().unwrap() {
            return Some(format!("{number}: {}", reply.line));
        }
        let theirs = pairs(&observed["headers"]);
        // A 304 has no body that could have a length, and some servers chunk.
        let has_length = reply.status() != 304 && theirs.iter().any(|(name, _)| name == "Content-Length");
        let skipped: &[&str] = if has_length { &[] } else { &["content-length"] };
        let theirs = theirs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let theirs: Vec<_> =
            theirs.filter(|(name, _)| !skipped.contains(&name.to_lowercase().as_str())).collect();
        // What outer middleware adds to Vary on a miss, Django's own hits lack.
        let [ours, theirs] = [reply.without(skipped), theirs].map(|headers| comparable(&headers, !served));
        (ours != theirs).then(|| format!("{number}: {ours:#?}, Django {theirs:#?}"))
    })
}

#[tokio::test]
async fn decisions_and_headers_are_djangos() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for case in cases() {
        let name = text(&case["name"]);
        if NOT_APPLICABLE.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let (replies, served) = play(&case).await;
        if let Some((_, expected, why)) = DIFFERENT.iter().find(|(other, ..)| *other == name) {
            assert_eq!(served, *expected, "{name}: {why}");
            continue;
        }
        wrong.extend(difference(&case, &replies, &served).map(|difference| format!("{name}: {difference}")));
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 85, "{compared}");
}
