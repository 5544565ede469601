//! `set_cookie`: pages that come with a cookie.

use proxy::MemoryStore;

use crate::backend::Backend;
use crate::support::{Client, Origin, RULES, Scene, Script, Setup, page};

scenes! {
    a_stripped_cookie_goes_to_the_client_that_asked_and_to_nobody_else
}

const COOKIE: &str =
    "Set-Cookie: sid=1; Path=/\r\nX-Between: 1\r\nSet-Cookie: other=2\r\nCache-Control: max-age=99999999\r\n";

/// The rule for each scheme of keys and each policy.
fn settings() -> [String; 3] {
    let django = "keys = \"django\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n";
    [("", ""), (django, ""), ("", "policy = \"http\"\n")]
        .map(|(keys, policy)| format!("{keys}{RULES}set_cookie = \"strip\"\n{policy}"))
}

async fn a_stripped_cookie_goes_to_the_client_that_asked_and_to_nobody_else(on: Setup) {
    for settings in settings() {
        let (origin, mut requests) = Origin::piecewise().await;
        let redis = Backend::start().unwrap();
        let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
        let mut leader = asking(&scene).await;
        let answer = requests.recv().await.unwrap();
        let mut followers = [asking(&scene).await, asking(&scene).await];
        answer.send(page(COOKIE, "hi")).await.unwrap();
        let led = leader.reply(true).await;
        let cookies = led.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count();
        assert_eq!((led.cache().as_str(), cookies, led.text()), ("MISS fwd=uri-miss; stored", 2, "hi"));
        for follower in &mut followers {
            let reply = follower.reply(true).await;
            assert_ne!(reply.header("x-cache"), "BYPASS", "{}", reply.cache());
            assert_eq!(
                (reply.header("set-cookie"), reply.header("x-between"), reply.text()),
                ("", "1", "hi")
            );
        }
        let hit = scene.get("/p/").await;
        assert_eq!((hit.cache().as_str(), hit.header("set-cookie")), ("HIT hit; ttl=60", ""));
        assert_eq!(origin.count(), 1);
        let keys = redis.cli(&["KEYS", "*"]).unwrap();
        for key in keys.lines() {
            assert!(!redis.cli(&["GET", key]).unwrap().contains("sid=1"), "{key}");
        }
    }
}

/// A client that has asked for the page.
async fn asking(scene: &Scene) -> Client {
    let mut client = scene.connect().await;
    client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    client
}

/// What else keeps a page out still does.
#[tokio::test]
async fn a_private_page_with_a_cookie_is_not_stored() {
    let origin = Origin::new(|seen, _| match seen.line.contains("private") {
        true => Script::Answer(page("Set-Cookie: a=1\r\nCache-Control: private\r\n", "hi")),
        false => Script::Answer(page("Set-Cookie: a=1\r\n", "hi")),
    })
    .await;
    for (settings, target, reason) in
        [(settings()[0].as_str(), "/p/private", "private"), (RULES, "/p/", "set-cookie")]
    {
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), settings).await;
        for _ in 0..2 {
            let reply = scene.get(target).await;
            assert_eq!(reply.cache(), format!("BYPASS fwd=bypass; detail={reason}"));
            assert_eq!(reply.header("set-cookie"), "a=1");
        }
    }
}
