//! The names of a request and of its trace, by which the origin and the access log know them.

use proxy::MemoryStore;

use crate::access_log::Log;
use crate::support::{Origin, Scene};

const GIVEN: &str =
    "X-Request-Id: mine\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

async fn named(settings: &str) -> (Vec<Option<String>>, Vec<serde_json::Value>) {
    let (log, origin) = (Log::new(), Origin::pages("").await);
    let settings = log.settings(&format!("format = \"json\"\n{settings}"));
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    // A miss, two hits, two passes.
    for (target, headers) in [("/p/1", GIVEN), ("/p/1", ""), ("/p/1", GIVEN), ("/pass", GIVEN), ("/pass", "")]
    {
        assert_eq!(scene.get_with(target, headers).await.status(), 200);
    }
    assert!(origin.seen()[0].header("traceparent").is_some());
    let seen = origin.seen().iter().map(|seen| seen.header("x-request-id").map(str::to_owned)).collect();
    (seen, log.json(5).await)
}

#[tokio::test]
async fn a_name_passes_and_none_is_made() {
    let (seen, lines) = named("").await;
    assert_eq!(seen, [Some("mine".to_owned()), Some("mine".to_owned()), None]);
    let logged: Vec<_> = lines.iter().map(|line| line.get("request_id").is_some()).collect();
    assert_eq!(logged, [true, false, true, true, false]);
    assert_eq!(lines[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn a_request_without_a_name_gets_one_if_the_settings_say_so() {
    let (seen, lines) = named("request_id = true\n").await;
    let logged: Vec<_> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!([logged[0], logged[2], logged[3]], ["mine"; 3]);
    assert_eq!(seen[2].as_deref(), Some(logged[4]), "the origin and the log have the same name");
    for made in [logged[1], logged[4]] {
        assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    }
    assert_ne!(logged[1], logged[4]);
}

/// The lines that come to the origin, and the trace in the log, for each of these header lines of a request that passes.
async fn traced(settings: &str, sent: &[&str]) -> Vec<([Option<String>; 2], Option<String>)> {
    let (log, origin) = (Log::new(), Origin::pages("").await);
    let settings = log.settings(&format!("format = \"json\"\n{settings}"));
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for headers in sent {
        assert_eq!(scene.get_with("/pass", headers).await.status(), 200);
    }
    let seen = origin.seen();
    let headers = seen
        .iter()
        .map(|seen| ["traceparent", "tracestate"].map(|name| seen.header(name).map(str::to_owned)));
    let logged = log.json(sent.len()).await;
    headers.zip(logged.iter().map(|line| line["trace_id"].as_str().map(str::to_owned))).collect()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_trace_passes_as_it_came_and_a_missing_or_bad_one_is_made_if_the_settings_say_so() {
    let good = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let sent = [&good, "", "00-0-0-00"].map(|value| match value {
        "" => String::new(),
        value => format!("traceparent: {value}\r\ntracestate: a=b\r\n"),
    });
    let sent = sent.each_ref().map(String::as_str);
    let state = || Some("a=b".to_owned());
    let passed = [
        ([Some(good.clone()), state()], Some(TRACE.to_owned())),
        ([None, None], None),
        ([Some("00-0-0-00".to_owned()), state()], None),
    ];
    assert_eq!(traced("", &sent).await, passed);
    let made = traced("traceparent = true\n", &sent).await;
    assert_eq!(made[0], passed[0]);
    for (headers, logged) in &made[1..] {
        let [Some(traceparent), None] = headers else { panic!("{headers:?}") };
        let trace = traceparent.strip_prefix("00-").unwrap();
        assert!(trace.len() == 52 && trace.ends_with("-01") && !trace.starts_with(TRACE), "{traceparent}");
        assert_eq!(logged.as_deref(), Some(&trace[..32]), "the origin and the log have the same trace");
    }
    assert_ne!(made[1].1, made[2].1);
}
