//! Values in the store that HTTP cannot send: each is a miss, and is replaced.

use std::time::Duration;

use proxy::pickle::{PickledPage, Protocol, write_page};
use proxy::{Key, Values as _, Write};

use crate::backend::Backend;
use crate::support::{Origin, RULES, Scene, Setup, heard, redis_store};

scenes! {
    a_readable_page_that_http_cannot_send_is_a_miss_and_is_replaced
    a_pickled_page_that_http_cannot_send_is_a_miss_and_is_replaced
}

const KEY: &str = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";

/// Header lines that break a connection.
const BAD: [(&str, &str); 9] = [
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("Connection", "close"),
    ("Connection", "x-odd"),
    ("Keep-Alive", "timeout=5"),
    ("Upgrade", "h2c"),
    ("Trailer", "etag"),
    ("Content-Length", "5"),
    ("Content-Length", "7"),
];

/// A page in the store, and what a client sees of it.
struct Stored {
    scene: Scene,
    redis: Backend,
    key: String,
    on: Setup,
}

impl Stored {
    /// A proxy over a Redis of its own that has stored the page of `/p/`.
    async fn new(on: Setup, origin: &Origin, settings: &str) -> Self {
        let redis = Backend::start().unwrap();
        let scene = Scene::over(on, &redis.url(), origin, settings).await;
        assert_eq!(scene.get("/p/").await.header("x-cache"), "MISS");
        let key = redis.cli(&["KEYS", "*.cache_page.*"]).unwrap().trim().to_owned();
        Self { scene, redis, key, on }
    }

    /// Puts a value in the page's place. Tells whether a client gets it, by the ways with and without hyper.
    async fn is_served(&self, value: Vec<u8>) -> bool {
        let store = redis_store(&self.redis.url());
        let mut hits = Vec::new();
        for way in ["", "Connection: close\r\n"] {
            let write = Write::Set(Key::new(&*self.key), value.clone().into());
            store.put(vec![write], Duration::from_secs(60)).await.unwrap();
            heard(self.on).await;
            let reply = self.scene.get_with("/p/", way).await;
            assert_eq!((reply.status(), reply.whole), (200, true));
            let is_hit = reply.header("x-cache") == "HIT";
            assert_eq!(reply.text() == "foreign", is_hit, "{} {:?}", reply.cache(), reply.headers);
            assert!(is_hit || reply.cache() == "MISS fwd=miss; stored", "{}", reply.cache());
            hits.push(is_hit);
        }
        assert_eq!(hits[0], hits[1]);
        hits[0]
    }
}

async fn a_readable_page_that_http_cannot_send_is_a_miss_and_is_replaced(on: Setup) {
    let origin = Origin::pages("").await;
    let stored = Stored::new(on, &origin, RULES).await;
    assert_eq!(stored.key, KEY);
    let value = |lines: &[(&str, &str)]| {
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let own = format!("Cachepage-Expires: 9999999999\r\nCachepage-Key: {KEY}\r\n");
        format!("HTTP/1.1 200 OK\r\n{own}{lines}\r\nforeign").into_bytes()
    };
    let whole = ("Content-Length", "7");
    assert!(stored.is_served(value(&[whole, ("X-Odd", "1")])).await);
    assert!(!stored.is_served(value(&[whole, whole])).await, "two lengths");
    for (name, text) in BAD.into_iter().filter(|line| *line != whole) {
        let lines = [(name, text), whole];
        let is_length = name.eq_ignore_ascii_case("content-length");
        assert!(!stored.is_served(value(&lines[..if is_length { 1 } else { 2 }])).await, "{name}: {text}");
    }
}

async fn a_pickled_page_that_http_cannot_send_is_a_miss_and_is_replaced(on: Setup) {
    let origin = Origin::pages("").await;
    let settings = format!("keys = \"django\"\n{RULES}[django]\nversion = \"5.2.19\"\n");
    let stored = Stored::new(on, &origin, &settings).await;
    assert!(stored.is_served(pickle(200, "X-Odd", "1")).await);
    assert!(stored.is_served(pickle(200, "Content-Length", "7")).await);
    for (name, text) in BAD.into_iter().filter(|line| *line != ("Content-Length", "7")) {
        assert!(!stored.is_served(pickle(200, name, text)).await, "{name}: {text}");
    }
    for line in [
        ("no token", "1"),
        ("no:token", "1"),
        ("Odd", "one\r\ntwo"),
        ("Odd", "one\ntwo"),
        ("Odd", "one\0two"),
    ] {
        assert!(!stored.is_served(pickle(200, line.0, line.1)).await, "{line:?}");
    }
    for status in [100, 101, 199, 204, 205, 304] {
        assert!(!stored.is_served(pickle(status, "X-Odd", "1")).await, "{status}");
    }
}

/// A page as another program might pickle it, with a line that the proxy's own writer leaves out.
fn pickle(status: u16, name: &str, text: &str) -> Vec<u8> {
    let placeholder = ("Q".repeat(name.len()), "V".repeat(text.len()));
    let page = PickledPage {
        status: 200,
        headers: vec![placeholder.clone()],
        body: "foreign".into(),
        ..PickledPage::default()
    };
    let [low, high] = status.to_le_bytes();
    let mut value = write_page(&page, Protocol::Five).unwrap().to_vec();
    for (from, to) in [
        (placeholder.0.as_bytes(), name.as_bytes()),
        (placeholder.0.to_lowercase().as_bytes(), name.to_lowercase().as_bytes()),
        (placeholder.1.as_bytes(), text.as_bytes()),
        (&[b'M', 200, 0], &[b'M', low, high]),
    ] {
        let at = value.windows(from.len()).position(|part| part == from).unwrap();
        value[at..at + to.len()].copy_from_slice(to);
    }
    value
}
