//! Every combination of a condition or range with a validator, a state of the page, a method, a policy and a scheme of keys.
//! A failure names its row.

use std::fmt::{self, Debug, Formatter};

use proxy::MemoryStore;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep};

use crate::support::{Client, Origin, PATIENCE, Reply, Scene, Script, Seen};

const TEXT: &str = "0123456789";

/// In the order of time.
const DAYS: [&str; 4] = [
    "Sat, 21 Nov 2026 20:09:06 GMT",
    "Sun, 22 Nov 2026 20:09:06 GMT",
    "Tue, 24 Nov 2026 12:00:00 GMT",
    "Wed, 25 Nov 2026 12:00:00 GMT",
];
const MODIFIED: usize = 1;
const DATE: usize = 2;

/// The headers that a page is compared by.
#[derive(Clone, Copy, Debug)]
struct Validator {
    tag: Option<&'static str>,
    is_dated: bool,
}

const VALIDATORS: [Validator; 5] = [
    Validator { tag: Some("\"a\""), is_dated: false },
    Validator { tag: Some("W/\"a\""), is_dated: false },
    Validator { tag: None, is_dated: true },
    Validator { tag: None, is_dated: false },
    Validator { tag: Some("\"a\""), is_dated: true },
];

impl Validator {
    fn lines(self) -> String {
        let tag = self.tag.map(|tag| format!("ETag: {tag}\r\n")).unwrap_or_default();
        let date =
            if self.is_dated { format!("Last-Modified: {}\r\n", DAYS[MODIFIED]) } else { String::new() };
        tag + &date
    }
}

/// What a request asks for. Days are numbers in [`DAYS`].
#[derive(Clone, Copy)]
struct Asked {
    tags: Option<&'static str>,
    since: Option<usize>,
    range: Option<&'static str>,
    if_tag: Option<&'static str>,
    if_day: Option<usize>,
}

impl Asked {
    const fn tags(tags: &'static str) -> Self {
        Self { tags: Some(tags), ..Self::NOTHING }
    }

    const fn since(day: usize) -> Self {
        Self { since: Some(day), ..Self::NOTHING }
    }

    const fn range(range: &'static str) -> Self {
        Self { range: Some(range), ..Self::NOTHING }
    }

    const NOTHING: Self = Self { tags: None, since: None, range: None, if_tag: None, if_day: None };
}

const ALL: [Asked; 20] = [
    Asked::NOTHING,
    Asked::tags("\"a\""),
    Asked::tags("W/\"a\""),
    Asked::tags("\"b\""),
    Asked::tags("\"b\", W/\"a\""),
    Asked::tags("*"),
    Asked::since(0),
    Asked::since(1),
    Asked::since(2),
    Asked::since(3),
    Asked { since: Some(3), ..Asked::tags("\"b\"") },
    Asked { since: Some(0), ..Asked::tags("\"a\"") },
    Asked::range("2-3"),
    Asked::range("10-"),
    Asked::range("0-1,4-5"),
    Asked { tags: Some("\"a\""), ..Asked::range("2-3") },
    Asked { if_tag: Some("\"a\""), ..Asked::range("2-3") },
    Asked { if_tag: Some("W/\"a\""), ..Asked::range("2-3") },
    Asked { if_day: Some(1), ..Asked::range("2-3") },
    Asked { if_day: Some(2), ..Asked::range("2-3") },
];

/// The header lines of the request.
impl Debug for Asked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let line = |name: &str, value: Option<&str>| value.map(|value| format!("{name}: {value}\r\n"));
        let lines = [
            line("If-None-Match", self.tags),
            line("If-Modified-Since", self.since.map(|day| DAYS[day])),
            line("Range", self.range.map(|range| format!("bytes={range}")).as_deref()),
            line("If-Range", self.if_tag.or(self.if_day.map(|day| DAYS[day]))),
        ];
        f.write_str(&lines.into_iter().flatten().collect::<String>())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Get,
    Head,
}

/// The settings of a proxy, and what its pages are compared by.
#[derive(Clone, Copy, Debug)]
struct Case {
    is_http: bool,
    has_django_keys: bool,
    validator: Validator,
}

impl Case {
    fn all() -> Vec<Self> {
        let of = |validator| {
            let case = move |is_http, has_django_keys| Self { is_http, has_django_keys, validator };
            [case(false, false), case(false, true), case(true, false), case(true, true)]
        };
        VALIDATORS.into_iter().flat_map(of).collect()
    }

    fn settings(self, options: &str) -> String {
        let policy = if self.is_http { "http" } else { "django" };
        let keys = ["", "keys = \"django\"\n"][usize::from(self.has_django_keys)];
        let django =
            ["", "[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n"][usize::from(self.has_django_keys)];
        format!("{keys}[[cache_page]]\npath = \"/p/*\"\npolicy = \"{policy}\"\n{options}\n{django}")
    }

    async fn scene(self, origin: &Origin, options: &str) -> Scene {
        Scene::with(origin.address, MemoryStore::new(1 << 20), &self.settings(options)).await
    }

    /// The status, the range and the text of the answer, by RFC 9110 §13.2.2.
    fn expected(self, state: &str, method: Method, asked: Asked) -> (u16, &'static str, &'static str) {
        let Validator { tag, is_dated } = self.validator;
        // HTTP's policy keeps the Date, which counts where nothing else says when the page was modified. A pickle has none.
        let has_date = self.is_http && !(state == "fresh" && self.has_django_keys);
        let modified = if is_dated { Some(MODIFIED) } else { has_date.then_some(DATE) };
        let is_known = match asked.tags {
            Some(tags) => tags == "*" || (tags.contains("\"a\"") && tag.is_some()),
            None => asked.since.zip(modified).is_some_and(|(since, modified)| modified <= since),
        };
        let is_same = match (asked.if_tag, asked.if_day) {
            (Some(asked), _) => !asked.starts_with('W') && tag == Some(asked),
            (None, Some(day)) => is_dated && day == MODIFIED,
            (None, None) => true,
        };
        match asked.range {
            _ if is_known => (304, "", ""),
            _ if method == Method::Head => (200, "", ""),
            Some("2-3") if is_same => (206, "bytes 2-3/10", "23"),
            Some("10-") => (416, "bytes */10", "416: the range begins behind the end of the page\n"),
            _ => (200, "", TEXT),
        }
    }

    /// Asks for each page in each way. Returns the rows that fail.
    async fn faults(
        self,
        state: &str,
        scene: &Scene,
        target: impl Fn(usize, Method) -> String,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, asked) in ALL.into_iter().enumerate() {
            for method in [Method::Get, Method::Head] {
                let reply = ask(scene, method, &target(number, method), asked).await;
                faults.extend(self.fault(state, method, asked, &reply));
            }
        }
        faults
    }

    fn fault(self, state: &str, method: Method, asked: Asked, reply: &Reply) -> Option<String> {
        let expected = self.expected(state, method, asked);
        let found = (reply.status(), reply.header("content-range"), reply.text());
        let has_tag = reply.header("etag") == self.validator.tag.unwrap_or_default();
        let has_date = !reply.header("date").is_empty();
        let row =
            || format!("{state} {method:?} {self:?} {asked:?}: {found:?}, expected {expected:?}\n{reply:?}");
        (found != expected || !has_tag || !has_date || !reply.whole).then(row)
    }
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} rows fail:\n{}", faults.len(), faults.join("\n"));
}

async fn send(scene: &Scene, method: Method, target: &str, asked: Asked) -> Client {
    let mut client = scene.connect().await;
    let name = if method == Method::Get { "GET" } else { "HEAD" };
    client
        .write(format!("{name} {target} HTTP/1.1\r\nHost: localhost:8000\r\n{asked:?}\r\n").as_bytes())
        .await;
    client
}

async fn ask(scene: &Scene, method: Method, target: &str, asked: Asked) -> Reply {
    receive(&mut send(scene, method, target, asked).await, method).await
}

async fn receive(client: &mut Client, method: Method) -> Reply {
    let head = client.head().await;
    // A 304 has no body, whatever its head says.
    if method == Method::Head || head.status() == 304 { head } else { client.body_of(head).await }
}

/// The whole page.
fn page(seen: Option<&Seen>, lines: &str) -> Vec<u8> {
    let is_head = seen.is_some_and(|seen| seen.line.starts_with("HEAD"));
    let body = if is_head { "" } else { TEXT };
    format!("HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Length: 10\r\n{lines}\r\n{body}", DAYS[DATE]).into_bytes()
}

const FRESH: &str = "Cache-Control: max-age=99999999\r\n";

/// An origin that has the whole page, fresh, whatever is asked for.
async fn fresh(case: Case) -> Origin {
    let lines = format!("{FRESH}{}", case.validator.lines());
    Origin::new(move |seen, _| Script::Answer(page(Some(seen), &lines))).await
}

#[tokio::test]
async fn a_fresh_page_answers_every_combination() {
    let mut faults = Vec::new();
    for case in Case::all() {
        let origin = fresh(case).await;
        let scene = case.scene(&origin, "").await;
        scene.get("/p/").await;
        faults.extend(case.faults("fresh", &scene, |_, _| "/p/".to_owned()).await);
        assert_eq!(origin.count(), 1, "{case:?}");
    }
    none(&faults);
}

#[tokio::test]
async fn a_miss_answers_every_combination() {
    let mut faults = Vec::new();
    for case in Case::all() {
        let origin = fresh(case).await;
        let scene = case.scene(&origin, "").await;
        faults.extend(case.faults("miss", &scene, |number, method| format!("/p/{method:?}{number}")).await);
        // A GET asks for the whole page, so that it can be stored.
        let asked = origin.seen();
        let gets = asked.iter().filter(|seen| seen.line.starts_with("GET"));
        assert!(gets.into_iter().all(|seen| seen.header("range").is_none() && !is_conditional(seen)));
        assert_eq!(asked.len(), 2 * ALL.len(), "{case:?}");
    }
    none(&faults);
}

fn is_conditional(seen: &Seen) -> bool {
    seen.header("if-none-match").is_some() || seen.header("if-modified-since").is_some()
}

/// A page under HTTP's policy that the origin must be asked for each time, which renews it with a 304.
#[tokio::test]
async fn a_page_that_is_validated_answers_every_combination() {
    let mut faults = Vec::new();
    for case in Case::all().into_iter().filter(|case| case.is_http) {
        let lines = format!("Cache-Control: no-cache\r\n{}", case.validator.lines());
        let origin = Origin::new(move |seen, _| {
            Script::Answer(match seen.line.starts_with("GET") && is_conditional(seen) {
                true => {
                    format!("HTTP/1.1 304 Not Modified\r\nDate: {}\r\n{lines}\r\n", DAYS[DATE]).into_bytes()
                }
                false => page(Some(seen), &lines),
            })
        })
        .await;
        let scene = case.scene(&origin, "").await;
        scene.get("/p/").await;
        faults.extend(case.faults("validated", &scene, |_, _| "/p/".to_owned()).await);
        // With Django's keys pages are kept no longer than they are fresh.
        let is_kept = !case.has_django_keys && (case.validator.tag.is_some() || case.validator.is_dated);
        let validations =
            origin.seen().iter().filter(|seen| seen.line.starts_with("GET") && is_conditional(seen)).count();
        assert_eq!(validations, if is_kept { ALL.len() } else { 0 }, "{case:?}");
    }
    none(&faults);
}

/// A page past its time that is served, since a new one does not come. With Django's keys no page outlives its time.
#[tokio::test]
async fn a_stale_page_answers_every_combination() {
    let mut stale = Vec::new();
    for case in Case::all().into_iter().filter(|case| !case.has_django_keys) {
        let lines = format!("{FRESH}{}", case.validator.lines());
        let origin = Origin::new(move |_, number| match number {
            1 => Script::Answer(page(None, &lines)),
            _ => Script::Close(Vec::new()),
        })
        .await;
        let scene = case.scene(&origin, "timeout = 1\ngrace = 1000").await;
        scene.get("/p/").await;
        stale.push((case, scene, origin));
    }
    let mut faults = Vec::new();
    for (case, scene, _origin) in &stale {
        let start = Instant::now();
        while !scene.get("/p/").await.header("cache-status").contains("grace") {
            assert!(start.elapsed() < PATIENCE, "{case:?} never is stale");
            sleep(Duration::from_millis(20)).await;
        }
        faults.extend(case.faults("stale", scene, |_, _| "/p/".to_owned()).await);
    }
    none(&faults);
}

#[tokio::test]
async fn followers_get_every_combination() {
    let (mut faults, mut collapsed) = (Vec::new(), 0);
    for case in Case::all() {
        let (origin, mut requests) = Origin::piecewise().await;
        let scene = case.scene(&origin, "").await;
        let mut clients = Vec::new();
        for asked in ALL {
            clients.push((asked, send(&scene, Method::Get, "/p/", asked).await));
        }
        let sender: mpsc::Sender<_> = requests.recv().await.unwrap();
        // The other requests come in meanwhile.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        sender.send(page(None, &format!("{FRESH}{}", case.validator.lines()))).await.unwrap();
        for (asked, mut client) in clients {
            let reply = receive(&mut client, Method::Get).await;
            collapsed += usize::from(reply.header("cache-status").contains("collapsed"));
            faults.extend(case.fault("collapsed", Method::Get, asked, &reply));
        }
        assert_eq!(origin.count(), 1, "{case:?}");
    }
    none(&faults);
    assert!(collapsed > ALL.len(), "{collapsed} were followers: that shows little");
}

/// The origin alone decides on what passes: it gets the conditions and ranges as they were sent, and its answer is relayed.
#[tokio::test]
async fn a_pass_leaves_every_combination_to_the_origin() {
    let is_bare = |case: &Case| case.validator.tag.is_none() && !case.validator.is_dated;
    for case in Case::all().into_iter().filter(is_bare) {
        let origin = fresh(case).await;
        let scene = case.scene(&origin, "").await;
        for asked in ALL {
            for method in [Method::Get, Method::Head] {
                let reply = ask(&scene, method, "/other", asked).await;
                let text = if method == Method::Get { TEXT } else { "" };
                assert_eq!((reply.status(), reply.text()), (200, text), "{method:?} {case:?} {asked:?}");
                let seen = origin.seen().pop().unwrap();
                for line in format!("{asked:?}").lines() {
                    let (name, value) = line.split_once(": ").unwrap();
                    assert_eq!(seen.header(name), Some(value), "{method:?} {case:?} {asked:?}");
                }
            }
        }
    }
}
