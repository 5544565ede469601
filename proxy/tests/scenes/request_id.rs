//! The name of a request, by which the origin and the access log know it.

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
