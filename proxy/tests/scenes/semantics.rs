//! Cases recorded from Django 5.2.19 (`tests/django/semantics.json`). In each, the proxy in front of an origin that
//! answers as the view did without `cache_page` must store and serve what Django stored and served.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex};

use proxy::MemoryStore;
use serde_json::Value;

use crate::support::{Origin, Reply, Scene, Script, Seen};

/// The cases in which the proxy deliberately differs: whether it serves each request from the store, and why.
const DIFFERENT: &[(&str, &[bool], &str)] = &[
    ("set-cookie-no-vary-request-cookie", &[false, false], "a cookie is for one client"),
    ("set-cookie-two", &[false, false], "a cookie is for one client"),
    ("set-cookie-raw-header-vary-cookie", &[false, false], "a cookie is for one client"),
    ("csrf-token", &[false, false], "a cookie is for one client"),
    ("drf-cached-html", &[false, false], "a cookie is for one client"),
    ("vary-concatenation-collision", &[false, false], "the proxy separates the values"),
    ("authorization", &[false, false], "credentials pass"),
    ("authorization-s-maxage", &[false, false], "credentials pass"),
    ("authorization-then-anonymous", &[false, false, false, false], "credentials pass"),
    ("anonymous-then-authorization", &[false, false], "credentials pass"),
    ("status-304", &[false, false], "a 304 to an unconditional request is a 502"),
    ("head-head", &[false, false], "a HEAD has no body to store"),
    ("view-disables-update", &[false, true], "a flag inside Django is not visible in the response"),
];

/// The cases that do not apply to a proxy with the decorator's rules, and why. They have no test.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    (
        "cc-spaces",
        "white space at the end of a value is not transmitted; the policy's table has the other cases",
    ),
    ("cc-max-age-bad", "Django itself answers 500; the policy's table treats the max-age as absent"),
    ("cc-max-age-0-site", "with the site-wide middleware max-age decides, with the decorator it does not"),
    ("site-middleware-csrf", "the site-wide middleware, not the decorator"),
    ("timeout-1-expires", "it waits for an expiry; scenes::redis lets a key expire"),
    ("timeout-none", "a rule has a timeout"),
    ("timeout-none-max-age-7", "a rule has a timeout"),
    ("timeout-float", "the timeout of a rule is in whole seconds"),
    (
        "inm-match-no-conditional-mw",
        "the proxy answers conditions itself, as Django does with ConditionalGetMiddleware",
    ),
    ("ims-match-no-conditional-mw", "as inm-match-no-conditional-mw"),
    ("inm-weak-conditional-mw", "ConditionalGetMiddleware adds an ETag on each hit, and its 304 has no Age"),
    ("ims-match-conditional-mw", "as inm-weak-conditional-mw"),
    ("inm-first-conditional-mw", "as inm-weak-conditional-mw"),
    (
        "etag-generated-head-hit-conditional-mw",
        "as inm-weak-conditional-mw: the ETag is stored, so a HEAD has it too",
    ),
    ("range-first", "the proxy answers ranges itself; Django has none"),
    ("range-on-hit", "as range-first"),
    (
        "gzip-middleware-outside",
        "GZipMiddleware also runs on Django's hits; the proxy stores the compressed response",
    ),
];

/// Headers of one connection or one server, or of the proxy itself.
const NOT_COMPARED: [&str; 7] =
    ["date", "server", "connection", "keep-alive", "transfer-encoding", "x-cache", "cache-status"];

/// One test for each case, with its name; and a test that no case lacks one.
macro_rules! cases {
    ($($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            run(stringify!($name)).await;
        })*

        #[test]
        fn every_case_has_a_test() {
            let tests = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            let is_applicable = |case: &&Value| NOT_APPLICABLE.iter().all(|(name, _)| case["name"] != *name);
            assert_eq!(CASES.iter().filter(is_applicable).map(test_of).collect::<BTreeSet<_>>(), tests);
        }
    };
}

cases! {
    status_200
    status_201
    status_203
    status_204
    status_300
    status_301
    status_303
    status_304
    status_307
    status_400
    status_401
    status_404
    status_405
    status_418
    status_500
    status_503
    view_raises
    view_disables_update
    cc_private_upper
    cc_private_field
    cc_no_store
    cc_no_store_upper
    cc_no_cache
    cc_max_age_0
    cc_max_age_10
    cc_max_age_negative
    cc_public
    cc_public_max_age_10
    cc_s_maxage_5
    cc_must_revalidate
    cc_max_age_0_must_revalidate
    cc_unknown
    cc_immutable
    cc_two_max_age
    cc_stale
    site_middleware_200
    never_cache_inside
    cache_control_decorator_inside
    cache_control_decorator_outside
    timeout_0
    age_with_view_max_age_10
    age_view_sent_age
    expires_present
    expires_0
    expires_and_max_age
    etag_generated_conditional_mw
    date_from_view
    server_from_view
    inm_miss_conditional_mw
    set_cookie_no_vary_request_cookie
    set_cookie_vary_cookie
    set_cookie_vary_accept_cookie_case
    set_cookie_two
    set_cookie_raw_header_vary_cookie
    vary_cookie_no_set_cookie
    vary_cookie_different_cookie
    vary_star_padded
    vary_star_in_list
    vary_missing_then_empty
    vary_empty_then_missing
    vary_concatenation_collision
    vary_user_agent
    session_read
    session_save_every_request
    csrf_token
    body_empty
    body_1_5mb
    content_type_latin1
    content_type_json
    content_encoding_gzip
    transfer_headers
    header_case
    header_latin1
    get_then_head
    get_post_get
    get_with_body
    head_head
    head_get_head
    post_no_cookie_csrf
    put_then_get
    options
    authorization
    authorization_then_anonymous
    authorization_s_maxage
    authorization_empty
    anonymous_then_authorization
    request_no_cache
    request_max_age_0
    request_only_if_cached
    query_order_matters
    no_middleware_at_all
    drf_cached_page3
    drf_cached_html
    drf_cached_406
    drf_cached_options
    drf_cached_get_head
    drf_cached_head_get
    drf_cached_json_vs_star
    drf_cached_auth_bad
}

static CASES: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../django/semantics.json")).unwrap());

/// The name of a case as that of a test.
fn test_of(case: &Value) -> String {
    text(&case["name"]).to_lowercase().replace(['-', '.'], "_")
}

async fn run(test: &str) {
    let case = CASES.iter().find(|case| test_of(case) == test).unwrap();
    let (replies, served) = play(case).await;
    match DIFFERENT.iter().find(|(name, ..)| case["name"] == *name) {
        Some((_, expected, why)) => assert_eq!(served, *expected, "{why}"),
        None => assert_eq!(difference(case, &replies, &served), None),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_array().unwrap().iter();
    pairs.map(|pair| (text(&pair[0]).to_owned(), text(&pair[1]).to_owned())).collect()
}

/// The headers of the view's answer, before `cache_page` added its own.
fn view_headers(case: &Value, request: &Value, observed: &Value) -> Vec<(String, String)> {
    let mut headers = pairs(&observed["headers"]);
    let is_changed = case["stored"] == true || observed["status"] == 304 || case["options"]["timeout"] == 0;
    if !is_changed || text(&request["target"]).starts_with("/never") {
        return headers;
    }
    let view = request["view"]["headers"].as_array().map(|_| pairs(&request["view"]["headers"]));
    let view = view.unwrap_or_default();
    let of_view = |name: &str| view.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    // These views set their Cache-Control themselves, by a decorator.
    let is_decorated = text(&request["target"]).contains("cc10");
    headers.retain(|(name, _)| name != "Expires" && (name != "Cache-Control" || is_decorated));
    headers.extend(
        ["Expires", "Cache-Control"].iter().filter_map(|name| Some(((*name).to_owned(), of_view(name)?))),
    );
    headers.dedup_by(|a, b| a.0 == "Cache-Control" && b.0 == a.0);
    headers
}

/// The answer of the origin: that of the view, with a body of the recorded length.
fn answer(case: &Value, number: usize, method: &str) -> Vec<u8> {
    let observed = &case["observed"];
    // A request that Django served from its cache gets the answer that filled the cache.
    let served = case["served_from_cache"].as_array().unwrap();
    let number = (0..=number).rev().find(|&number| served[number] == false).unwrap_or(0);
    let observed = &observed[number];
    let headers = view_headers(case, &case["requests"][number], observed);
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

/// Replaces `{now+N}` by a fixed date, on both sides: these tests do not compare times.
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

/// The header lines to compare. The values of dates and ages are left to the tests of the policy.
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
    let (current_request, shared) = (Arc::new(Mutex::new(0)), Arc::new(case.clone()));
    let current = current_request.clone();
    let origin = Origin::new(move |seen: &Seen, _| {
        let method = seen.line.split(' ').next().unwrap();
        Script::Answer(answer(&shared, *current.lock().unwrap(), method))
    })
    .await;
    // A site without the default middleware adds no headers to a hit.
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
        *current_request.lock().unwrap() = number;
        let reply = ask(&scene, request).await;
        served.push(reply.header("x-cache") == "HIT");
        replies.push(reply);
    }
    (replies, served)
}

/// The first difference between the replies and Django's, if any.
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
        // A 304 has no length, and some recorded answers are chunked.
        let has_length = reply.status() != 304 && theirs.iter().any(|(name, _)| name == "Content-Length");
        let skipped: &[&str] = if has_length { &[] } else { &["content-length"] };
        let theirs = theirs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let theirs: Vec<_> =
            theirs.filter(|(name, _)| !skipped.contains(&name.to_lowercase().as_str())).collect();
        // Django's hits lack what outer middleware adds to Vary on a miss, so hits are compared without it.
        let [ours, theirs] = [reply.without(skipped), theirs].map(|headers| comparable(&headers, !served));
        (ours != theirs).then(|| format!("{number}: {ours:#?}, Django {theirs:#?}"))
    })
}
