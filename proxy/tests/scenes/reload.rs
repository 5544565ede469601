//! Settings that are read anew while the proxy serves.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Parser as _;
use proxy::{Args, Config, MemoryStore, Service};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::admin::{Running, TOKEN};
use crate::metrics::sample;
use crate::program::{refused, run};
use crate::support::{Client, Origin, Reply, Script, page};
use crate::tls::listen;
use crate::tunnel::{Authority, Pair};

impl Running {
    /// Changes the text of the settings.
    fn edit(&self, from: &str, to: &str) {
        let file = self.folder.path().join("cachepage.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
    }

    async fn reload(&self) -> Reply {
        self.ask("POST", "/reload", TOKEN).await
    }

    /// The `max-age` that a page of this path is answered with.
    async fn max_age(&self, target: &str) -> String {
        self.get(target, "").await.header("cache-control").to_owned()
    }
}

fn body(reply: &Reply) -> Value {
    serde_json::from_str(reply.text()).unwrap()
}

#[tokio::test]
async fn a_reload_counts_for_every_request_after_its_answer() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    assert_eq!(running.max_age("/p/1").await, "max-age=60");
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = 300");
    assert_eq!(running.max_age("/p/2").await, "max-age=60", "the file alone changes nothing");
    let reply = running.reload().await;
    assert_eq!((reply.status(), body(&reply)), (200, json!({ "generation": 2 })));
    assert_eq!(running.max_age("/p/3").await, "max-age=300");
    assert_eq!(running.get("/p/1", "").await.header("x-cache"), "HIT", "what is stored stays");
    let status = running.status().await;
    assert_eq!((&status["config"]["generation"], &status["rules"][0]["timeout"]), (&2.into(), &300.into()));
    assert_eq!(status["rules"][0]["requests"], 4, "a rule goes on counting");
}

#[tokio::test]
async fn settings_with_a_fault_change_nothing_and_all_faults_are_told() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = \"soon\"\ngrace = -1");
    let reply = running.reload().await;
    let faults = body(&reply)["faults"].as_array().unwrap().clone();
    assert_eq!((reply.status(), faults.len()), (422, 2), "{faults:?}");
    for (fault, place) in faults.iter().zip([":5: timeout: ", ":6: grace: "]) {
        assert!(fault.as_str().unwrap().contains(place), "{fault}");
    }
    assert_eq!(running.max_age("/p/1").await, "max-age=60");
    let metrics = running.ask("GET", "/metrics", "").await;
    assert_eq!(sample(metrics.text(), "cachepage_config_last_reload_successful"), 0.0);
    assert_eq!(running.status().await["config"]["generation"], 1);
    running.edit("timeout = \"soon\"\ngrace = -1", "timeout = 9");
    assert_eq!(running.reload().await.status(), 200);
    let metrics = running.ask("GET", "/metrics", "").await;
    assert_eq!(sample(metrics.text(), "cachepage_config_last_reload_successful"), 1.0);
}

#[tokio::test]
async fn a_reload_that_hides_queries_also_hides_those_of_earlier_requests() {
    let origin = Origin::pages("").await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let log = format!("[log]\naccess = {log:?}\nredact_query = false\n");
    let running = Running::start(&origin, "127.0.0.1:0", &log);
    for _ in 0..2 {
        assert_eq!(running.get("/p/1?key=s3cret", "").await.status(), 200);
    }
    let urls = |status: Value| [&status["hottest"], &status["slowest"]].map(ToString::to_string);
    for shown in urls(running.status().await) {
        assert!(shown.contains("/p/1?key=s3cret"), "{shown}");
    }
    running.edit("redact_query = false", "redact_query = true");
    assert_eq!(running.reload().await.status(), 200);
    for shown in urls(running.status().await) {
        assert!(shown.contains("/p/1") && !shown.contains("s3cret"), "{shown}");
    }
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_then_nothing_of_the_file_counts() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = 300");
    running.edit("store = \"memory\"", "store = \"redis://127.0.0.1:1/1\"\nnear = \"1MiB\"");
    let reply = running.reload().await;
    let faults = body(&reply)["faults"].as_array().unwrap().clone();
    assert_eq!((reply.status(), faults.len()), (422, 2), "{faults:?}");
    for (fault, setting) in faults.iter().zip(["cachepage.toml:2: store: ", "cachepage.toml:3: near: "]) {
        let fault = fault.as_str().unwrap();
        assert!(fault.contains(setting) && fault.ends_with("needs a restart or a takeover"), "{fault}");
    }
    assert_eq!(running.max_age("/p/1").await, "max-age=60");
}

#[tokio::test]
async fn the_command_reloads_and_ends_with_2_for_settings_that_the_proxy_cannot_take() {
    let origin = Origin::pages("").await;
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("admin.sock").display());
    let running = Running::start(&origin, &listen, "");
    let file = running.folder.path().join("cachepage.toml");
    let command = || run(&["reload", "--config", file.to_str().unwrap()]);
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = 300");
    let reloaded = command();
    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    assert_eq!(running.max_age("/p/1").await, "max-age=300");
    running.edit("store = \"memory\"", "store = \"redis://127.0.0.1:1/1\"");
    assert!(refused(&command()).ends_with("store: needs a restart or a takeover\n"));
    running.edit("timeout = 300", "timeout = -1");
    assert!(refused(&command()).contains("timeout: "), "a fault that is seen without the proxy");
    let away = run(&["reload", "--admin", "unix:/nowhere/admin.sock"]);
    assert_eq!(away.status.code(), Some(1));
}

/// The settings of a round: its rule's timeout names it, and in every other round the client is a trusted proxy. Those of every
/// tenth round have a fault.
fn settings_of(round: usize, base: &str) -> String {
    let trusted = if is_trusted(round) { "trusted_proxies = [\"127.0.0.1\"]\n" } else { "" };
    let fault = if is_broken(round) { "grace = -1\n" } else { "" };
    let rule = format!("path = \"/p/*\"\ntimeout = {round}\n{fault}");
    format!("{trusted}{}", base.replace("path = \"/p/*\"\n", &rule))
}

fn is_trusted(round: usize) -> bool {
    round.is_multiple_of(2)
}

fn is_broken(round: usize) -> bool {
    round % 10 == 9
}

/// What the clients of a load have in common.
#[derive(Default)]
struct Load {
    ends: AtomicBool,
    answers: AtomicUsize,
}

impl Load {
    /// Asks for a new page again and again. Each answer is by the settings of one round that had no fault, and never by those of an
    /// earlier round than the answer before it.
    async fn run(self: Arc<Self>, proxy: std::net::SocketAddr, number: usize) {
        let mut client = Client::connect(proxy).await;
        let mut last = 0;
        for target in 0.. {
            let request =
                format!("GET /p/{number}-{target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
            client.write(request.as_bytes()).await;
            let reply = client.reply(true).await;
            assert_eq!(reply.status(), 200);
            let round = reply.header("cache-control").strip_prefix("max-age=").unwrap().parse().unwrap();
            assert!(round >= last && !is_broken(round), "{round} after {last}");
            assert_eq!(reply.header("x-is-trusted"), is_trusted(round).to_string(), "{round}");
            last = round;
            self.answers.fetch_add(1, Ordering::Relaxed);
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Waits for some more answers.
    async fn goes_on(&self) {
        let until = self.answers.load(Ordering::Relaxed) + CLIENTS;
        while self.answers.load(Ordering::Relaxed) < until {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

const CLIENTS: usize = 64;

/// In CI 30 rounds; CACHEPAGE_RELOADS takes another number.
#[tokio::test]
async fn under_load_no_request_fails_and_none_is_answered_by_parts_of_two_settings() {
    let rounds = std::env::var("CACHEPAGE_RELOADS").map_or(30, |rounds| rounds.parse().unwrap());
    let origin = Origin::new(|seen, _| {
        let is_trusted = seen.header("x-forwarded-for").unwrap().contains("192.0.2.1");
        Script::Answer(page(&format!("X-Is-Trusted: {is_trusted}\r\n"), "page"))
    })
    .await;
    let top = "store = \"memory\"\nmemory_limit = \"4MiB\"\nmax_entry = \"64KiB\"";
    let running = Running::with(&origin, top, "127.0.0.1:0", "");
    let file = running.folder.path().join("cachepage.toml");
    let base = fs::read_to_string(&file).unwrap();
    let resident = async || {
        let metrics = running.ask("GET", "/metrics", "").await;
        sample(metrics.text(), "process_resident_memory_bytes")
    };
    let (load, mut clients) = (Arc::<Load>::default(), JoinSet::new());
    let (mut before, mut generation) = (0.0, 1);
    for round in 100..100 + rounds {
        fs::write(&file, settings_of(round, &base)).unwrap();
        let reply = running.reload().await;
        if is_broken(round) {
            assert_eq!(reply.status(), 422);
        } else {
            generation += 1;
            assert_eq!((reply.status(), body(&reply)), (200, json!({ "generation": generation })));
        }
        if clients.is_empty() {
            (0..CLIENTS).for_each(|number| drop(clients.spawn(load.clone().run(running.proxy, number))));
        }
        load.goes_on().await;
        if round == 100 + rounds / 3 {
            before = resident().await;
        }
    }
    let after = resident().await;
    load.ends.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let (answers, megabytes) = (load.answers.load(Ordering::Relaxed), |bytes: f64| (bytes / 1e6).round());
    println!("{rounds} reloads, {answers} answers, {} MB, then {} MB", megabytes(before), megabytes(after));
    assert_eq!(running.status().await["requests"]["error"], 0);
    assert!(after < before + 16e6, "{before} bytes, then {after}");
}

#[test]
fn a_reload_takes_certificates_and_one_that_is_refused_takes_none() {
    let authority = Authority::new();
    let [first, second] = [&["first.example"], &["second.example"]].map(|names| authority.issue(names));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cachepage.toml");
    let write =
        |pairs: &[&Pair], more: &str| fs::write(&file, format!("{more}\n{}", listen(pairs, ""))).unwrap();
    write(&[&first], "store = \"memory\"");
    let args = Args::try_parse_from(["proxy", "--config", file.to_str().unwrap()]).unwrap();
    let config = Config::load(&args).unwrap();
    let shown = config.listeners[0].certificates.clone().unwrap();
    let service = Service::start(args, config, 0, MemoryStore::new(1 << 20)).unwrap();
    write(&[&first, &second], "store = \"memory\"");
    assert_eq!((service.reload().unwrap(), shown.expiries().len()), (2, 2));
    write(&[&second], "store = \"memory\"\nnear = 5");
    fs::remove_file(&first.cert).unwrap();
    let refused = service.reload().unwrap_err().to_string();
    assert!(refused.contains("near: needs a restart"), "{refused}");
    assert_eq!(shown.expiries().len(), 2);
    write(&[&second], "store = \"memory\"");
    assert_eq!((service.reload().unwrap(), shown.expiries().len()), (3, 1));
    fs::write(&file, "store = \"memory\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    let refused = service.reload().unwrap_err().to_string();
    assert!(refused.contains("needs a restart"), "{refused}");
}
