//! `proxy explain` says what serving does, for random requests over random stores.

use std::time::Duration;

use clap::Parser as _;
use proxy::{Args, Config, Explain, Key, MemoryStore, Proxy, Site, Values as _, Write};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{Origin, Scene, Script};

/// How many random requests are compared.
const CASES: usize = 2_000;

const NORMALISED: &str = "ignore_query = [\"utm_*\"]\nsort_query = true\nignore_cookies = [\"_ga*\"]\n\
                          accept_encoding = \"normalise\"\n";

/// A proxy whose store, rules and trusted peers are known, so that a second proxy over the same store can explain.
struct Pair {
    scene: Scene,
    explaining: Proxy<MemoryStore>,
    store: MemoryStore,
}

impl Pair {
    async fn new(origin: &Origin, settings: &str) -> Self {
        let store = MemoryStore::new(64 << 20);
        let scene = Scene::with(origin.address, store.clone(), settings).await;
        let args =
            Args::try_parse_from(["proxy", "--origin", &format!("http://{}", origin.address)]).unwrap();
        let config = Config::parse(&args, Some(("explain.toml", settings))).unwrap();
        let explaining = Proxy::new(&config, Site::localhost(8000), store.clone());
        Self { scene, explaining, store }
    }

    /// The outcome that `explain` tells of a request, and the keys that it read.
    async fn explain(&self, target: &str, headers: &[String]) -> (String, Vec<String>) {
        let asked = Explain { url: target.to_owned(), headers: headers.to_vec(), query: None, json: true };
        let explanation = self.explaining.explain(&asked, [127, 0, 0, 1].into()).await.unwrap();
        let explanation = serde_json::to_value(explanation).unwrap();
        let reads = explanation["reads"].as_array().unwrap();
        let keys = reads.iter().map(|read| read["key"].as_str().unwrap().to_owned());
        (explanation["outcome"].as_str().unwrap().to_owned(), keys.collect())
    }

    /// Sends the request, through the front or through hyper, and returns the cache's word on it.
    async fn serve(&self, target: &str, headers: &[String], random: &mut StdRng) -> String {
        let close = if random.random_bool(0.5) { "Connection: close\r\n" } else { "" };
        let host = if headers.iter().any(|line| line.starts_with("Host:")) {
            ""
        } else {
            "Host: localhost:8000\r\n"
        };
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let reply = self.scene.send(&format!("GET {target} HTTP/1.1\r\n{host}{lines}{close}\r\n")).await;
        reply.header("cache-status").to_owned()
    }

    /// Moves the end of what lies under a key, spoils it, or deletes it.
    async fn age(&self, key: &str, random: &mut StdRng) {
        let [Some(value)] = self.store.get([key.as_bytes()]).await.unwrap() else { return };
        let is_end = |part: &[u8]| part == b"\r\n\r\n";
        let (head, content) = value.split_at(value.windows(4).position(is_end).unwrap_or(value.len()));
        let head = String::from_utf8(head.to_vec()).unwrap();
        let end = head.split("Cachepage-Expires: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let value = match (random.random_range(0..8), end) {
            (0, _) => return self.store.delete(&[Key::new(key)]).await.unwrap(),
            (1, _) => value[..value.len() / 2].to_vec(),
            (_, None) => return,
            // Not near an end of a rule's times, which a second more would pass.
            (_, Some(end)) => {
                let past = [-40, -10, 15, 100, 600].choose(random).unwrap();
                let moved = end.parse::<i64>().unwrap() - 60 - past;
                [head.replace(end, &moved.to_string()).as_bytes(), content].concat()
            }
        };
        let write = Write::Set(Key::new(key), value.into());
        self.store.put(vec![write], Duration::from_secs(600)).await.unwrap();
    }
}

/// Answers that are stored, unless the path says otherwise, and that a 304 confirms.
async fn storable() -> Origin {
    Origin::new(|seen, _| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let headers = match path.as_bytes()[3] {
            b'v' => "Vary: Accept-Language, Cookie, Accept-Encoding\r\n",
            b'u' => "Cache-Control: public\r\n",
            b'n' => "Cache-Control: max-age=0\r\n",
            b's' => "No-Vary-Search: params=(\"a\")\r\nCache-Control: stale-while-revalidate=20\r\n",
            _ => "",
        };
        // Some are worth compressing.
        let body = if path.as_bytes()[3] == b'c' { path.repeat(200) } else { path.to_owned() };
        let tag = "ETag: \"a\"\r\nContent-Type: text/plain\r\n";
        Script::Answer(match seen.header("if-none-match") {
            Some("\"a\"") => format!("HTTP/1.1 304 Not Modified\r\n{tag}{headers}\r\n").into_bytes(),
            _ => {
                let length = body.len();
                format!("HTTP/1.1 200 OK\r\n{tag}{headers}Content-Length: {length}\r\n\r\n{body}")
                    .into_bytes()
            }
        })
    })
    .await
}

fn random_headers(random: &mut StdRng) -> Vec<String> {
    let lines = [
        "Accept-Language: de",
        "Accept-Language: en",
        "Host: other.example",
        "X-Forwarded-Host: forwarded.example",
        "X-Forwarded-Proto: https",
        "Authorization: Basic eA==",
        "Cookie: _ga=1; a=b",
        "Accept-Encoding: gzip, br",
        "Accept-Encoding: gzip",
        "If-None-Match: \"a\"",
        "If-None-Match: \"b\"",
        "Range: bytes=0-1",
        "Range: bytes=99-",
    ];
    let mut lines: Vec<_> =
        lines.into_iter().filter(|_| random.random_bool(0.2)).map(str::to_owned).collect();
    if random.random_bool(0.3) {
        let wishes = [
            "no-cache",
            "no-store",
            "max-age=0",
            "max-age=9999",
            "min-fresh=700",
            "max-stale",
            "only-if-cached",
        ];
        lines.push(format!("Cache-Control: {}", wishes.choose(random).unwrap()));
    }
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    // One line of each name.
    let is_double = |index: usize| lines[..index].iter().any(|line| name(line) == name(&lines[index]));
    (0..lines.len()).filter(|index| !is_double(*index)).map(|index| lines[index].clone()).collect()
}

/// Whether serving did what was explained. Seconds may pass between the two, and of a fetch `explain` cannot know the answer.
fn is_the_same(explained: &str, served: &str) -> bool {
    let parts = |text: &str| -> Vec<String> {
        text.split("; ").filter(|part| !part.starts_with("ttl=")).map(str::to_owned).collect()
    };
    let (explained, served) = (parts(explained), parts(served));
    match explained.iter().any(|part| part.starts_with("fwd=") && part != "fwd=bypass") {
        // The answer to a request with credentials is not stored, and says so instead.
        true => {
            explained.iter().all(|part| served.contains(part))
                || served.join("; ") == "cachepage; fwd=bypass; detail=authorization"
        }
        false => served == explained,
    }
}

/// Random requests over random stores and ages, with conditions, ranges and wishes, by rules of both policies, with and without
/// grace, stale_if_error, normalising and compression, of trusted and of other peers.
#[tokio::test]
async fn explain_says_the_very_outcome_that_serving_gives() {
    let origin = storable().await;
    let mut random = StdRng::seed_from_u64(13);
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..CASES / 50 {
        let [grace, stale] = [30 * (round % 2), 300 * (round / 2 % 2)];
        let [trusted, authorization] = [["", "127.0.0.1"][round / 4 % 2], ["pass", "vary"][round / 8 % 2]];
        let normalised = ["", NORMALISED][round / 2 % 2];
        let compress = ["", "compress = [\"br\", \"gzip\"]\n"][round / 3 % 2];
        let policy = ["", "policy = \"http\"\ndefault_timeout = 60\n"][round / 5 % 2];
        let pair = Pair::new(
            &origin,
            &format!(
                "trusted_proxies = [{trusted:?}]\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\ngrace = {grace}\n\
                 stale_if_error = {stale}\nauthorization = {authorization:?}\n{normalised}{compress}{policy}"
            ),
        )
        .await;
        for case in 0..50 {
            let kind = ["p", "v", "u", "n", "s", "c", "c", "c"].choose(&mut random).unwrap();
            let query = ["", "?a=1", "?a=2", "?b&utm_x=1&a=1"].choose(&mut random).unwrap();
            let prefix = if random.random_bool(0.05) { "/x" } else { "/p" };
            let target = format!("{prefix}/{kind}{round}-{case}{query}");
            let headers = random_headers(&mut random);
            if random.random_bool(0.8) {
                let fill =
                    if random.random_bool(0.8) { headers.clone() } else { random_headers(&mut random) };
                // A 304 or a part may be there before the page is in the store.
                let is_whole = |line: &String| !line.starts_with("If-") && !line.starts_with("Range:");
                let fill: Vec<_> = fill.into_iter().filter(is_whole).collect();
                pair.serve(&target, &fill, &mut random).await;
                for key in pair.explain(&target, &headers).await.1 {
                    pair.age(&key, &mut random).await;
                }
            }
            let (explained, _) = pair.explain(&target, &headers).await;
            let served = pair.serve(&target, &headers, &mut random).await;
            assert!(is_the_same(&explained, &served), "{target} {headers:?}: {explained}, but {served}");
            let kind =
                explained.split("; ").filter(|part| !part.starts_with("ttl=")).collect::<Vec<_>>().join("; ");
            *outcomes.entry(kind).or_default() += 1;
        }
    }
    // Each kind of outcome was among them.
    for kind in [
        "hit",
        "hit; detail=grace",
        "hit; detail=range",
        "hit; detail=br",
        "hit; detail=gzip",
        "fwd=uri-miss",
        "fwd=vary-miss",
        "fwd=miss",
        "fwd=stale",
        "fwd=bypass; detail=no-rule",
        "hit; detail=max-stale",
        "fwd=request; detail=max-age",
        "fwd=request; detail=no-store",
        "fwd=bypass; detail=only-if-cached",
    ] {
        assert!(
            outcomes.get(&format!("cachepage; {kind}")).is_some_and(|count| *count > 2),
            "{kind}: {outcomes:?}"
        );
    }
}
