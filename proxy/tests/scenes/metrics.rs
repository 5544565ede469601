//! The figures that Prometheus reads: they agree with what was asked, and each is documented.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::date_time_ymd;
use tokio::time::timeout;

use crate::admin::Running;
use crate::backend::Backend;
use crate::support::{Client, Origin, PATIENCE, Script, answer, exchange, page};
use crate::tls::listen;
use crate::tunnel::Authority;

impl Running {
    pub(crate) async fn metrics(&self) -> String {
        self.ask("GET", "/metrics", "").await.text().to_owned()
    }

    /// Compares samples with their values.
    pub(crate) async fn assert_samples(&self, samples: &[(&str, u64)]) {
        let metrics = self.metrics().await;
        for &(name, value) in samples {
            assert_eq!(sample(&metrics, name), value as f64, "{name}\n{metrics}");
        }
    }

    /// Waits until a sample has a value.
    pub(crate) async fn until(&self, name: &str, value: f64) {
        let reached = async { while sample(&self.metrics().await, name) != value {} };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} is not {value}"));
    }
}

/// An origin whose pages tell what the test wants of them by their path.
async fn scripted() -> Origin {
    Origin::new(|seen, _| {
        Script::Answer(match seen.line.as_str() {
            line if line.contains("/cookie") => page("Set-Cookie: a=b\r\n", "cookie"),
            line if line.contains("/cut") => {
                return Script::Close(page("", "whole").strip_suffix(b"le").unwrap().to_vec());
            }
            // Closed, since the page that a scene asks for next must need a new connection.
            line if line.contains("/large") => return Script::Close(chunked(&"x".repeat(5000))),
            line if line.contains("/gone") => answer("404 Not Found", "", "gone"),
            _ => page("", "0123456789"),
        })
    })
    .await
}

/// An answer whose length is not known before its end.
fn chunked(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
}

/// A sample of the metrics.
pub(crate) fn sample(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn the_metrics_agree_with_a_scripted_load_to_one() {
    let origin = scripted().await;
    let running = Running::over_tcp(&origin).await;
    let empty = running.ask("GET", "/metrics", "").await;
    assert_eq!(empty.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(sample(empty.text(), "cachepage_requests_total{outcome=\"hit\",rule=\"/p/*\"}"), 0.0);
    for (target, times) in [("/p/1", 41), ("/p/cookie", 3), ("/p/gone", 2), ("/never/", 5), ("/other", 4)] {
        for _ in 0..times {
            running.get(target, "").await;
        }
    }
    assert_eq!(running.get("/p/1", "Range: bytes=0-3\r\n").await.status(), 206);
    assert_eq!(exchange(running.proxy, b"GET /x HTTP/1.1\r\n\r\n").await.status(), 400);
    let mut client = Client::connect(running.proxy).await;
    client
        .write(b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    client.reply(true).await;
    client.reply(true).await;
    let reply = running.ask("GET", "/metrics", "").await;
    let metrics = reply.text();
    for (outcome, rule, count) in [
        ("hit", "/p/*", 43),
        ("miss", "/p/*", 1),
        ("bypass", "/p/*", 5),
        ("bypass", "/never/", 5),
        ("bypass", "", 4),
        ("refused", "", 1),
        ("error", "/p/*", 0),
    ] {
        let name = format!("cachepage_requests_total{{outcome=\"{outcome}\",rule=\"{rule}\"}}");
        assert_eq!(sample(metrics, &name), f64::from(count), "{name}\n{metrics}");
    }
    for (name, count) in [
        ("cachepage_responses_total{class=\"2xx\"}", 56),
        ("cachepage_responses_total{class=\"4xx\"}", 3),
        ("cachepage_bypass_total{detail=\"set-cookie\"}", 3),
        ("cachepage_bypass_total{detail=\"status\"}", 2),
        ("cachepage_bypass_total{detail=\"rule-off\"}", 5),
        ("cachepage_bypass_total{detail=\"no-rule\"}", 4),
        ("cachepage_request_duration_seconds_count{outcome=\"hit\"}", 43),
        ("cachepage_request_duration_seconds_bucket{outcome=\"hit\",le=\"+Inf\"}", 43),
        ("cachepage_origin_inflight{origin=\"ORIGIN\"}", 0),
        ("cachepage_origin_requests_total{origin=\"ORIGIN\",class=\"2xx\"}", 13),
        ("cachepage_origin_requests_total{origin=\"ORIGIN\",class=\"4xx\"}", 2),
        ("cachepage_origin_requests_total{origin=\"ORIGIN\",class=\"error\"}", 0),
        ("cachepage_origin_duration_seconds_count{origin=\"ORIGIN\"}", 15),
        ("cachepage_origin_queue{origin=\"ORIGIN\"}", 0),
        ("cachepage_fills_total{result=\"stored\"}", 1),
        ("cachepage_fills_total{result=\"declined\"}", 5),
        ("cachepage_fill_seconds_count", 1),
        ("cachepage_flights", 0),
        ("cachepage_near_hits_total", 0),
        ("cachepage_breaker_open", 0),
        ("cachepage_store_up", 1),
    ] {
        let name = name.replace("ORIGIN", &format!("http://{}", origin.address));
        assert_eq!(sample(metrics, &name), f64::from(count), "{name}\n{metrics}");
    }
    assert!(!metrics.contains("s3cret"));
    assert_eq!(origin.count(), 15);
    // The client of the last two requests is still there.
    running.until("cachepage_connections{state=\"idle\"}", 1.0).await;
    running.until("cachepage_connections{state=\"active\"}", 0.0).await;
}

#[tokio::test]
async fn a_fill_is_counted_by_its_end() {
    let origin = scripted().await;
    let top = "store = \"memory\"\nmax_entry = 4096";
    let running = Running::with(&origin, top, "127.0.0.1:0", "");
    assert!(!running.get("/p/cut", "").await.whole);
    assert_eq!(running.get("/p/large", "").await.body.len(), 5000);
    running.until("cachepage_fills_total{result=\"cut_short\"}", 1.0).await;
    running.until("cachepage_fills_total{result=\"too_large\"}", 1.0).await;
    let name = format!("http://{}", origin.address);
    origin.stop().await;
    assert_eq!(running.get("/p/1", "").await.status(), 502);
    let error = format!("cachepage_origin_requests_total{{origin=\"{name}\",class=\"error\"}}");
    let healthy = format!("cachepage_origin_healthy{{origin=\"{name}\"}}");
    running
        .assert_samples(&[(&error, 1), (&healthy, 0), ("cachepage_fills_total{result=\"stored\"}", 0)])
        .await;
}

#[tokio::test]
async fn retries_and_origins_that_are_left_out_are_counted() {
    let [away, there] = [Origin::pages("").await, Origin::pages("").await];
    let urls = [&away, &there].map(|origin| format!("http://{}", origin.address));
    away.stop().await;
    let running = Running::of(&format!(
        "store = \"memory\"\n[[origin]]\nurl = \"{}\"\n[[origin]]\nurl = \"{}\"\n[origins]\neject_after = 2\neject_for = \"1h\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"TOKEN\"\n",
        urls[0], urls[1]
    ));
    for number in 0..20 {
        assert_eq!(running.get(&format!("/{number}"), "").await.status(), 200);
    }
    let metrics = running.metrics().await;
    let of = |name: &str, url: &str, class: &str| {
        sample(&metrics, &format!("cachepage_origin_{name}_total{{origin=\"{url}\"{class}}}"))
    };
    let failed = of("requests", &urls[0], ",class=\"error\"");
    assert_eq!(of("requests", &urls[1], ",class=\"2xx\""), 20.0);
    assert_eq!(sample(&metrics, "cachepage_retries_total"), failed);
    assert_eq!(sample(&metrics, "cachepage_retry_budget_exhausted_total"), 0.0);
    assert_eq!(of("ejections", &urls[0], ""), if failed < 2.0 { 0.0 } else { 1.0 });
    assert_eq!(of("ejections", &urls[1], ""), 0.0);
}

#[tokio::test]
async fn connections_without_a_place_and_handshakes_are_counted() {
    let (authority, origin) = (Arc::new(Authority::new()), Origin::pages("").await);
    let (expiry, seconds) = (date_time_ymd(2090, 1, 1), 3_786_912_000);
    let pair = authority.issue_as("site", &["127.0.0.1"], |params| params.not_after = expiry);
    let running = Running::of(&format!(
        "origin = \"http://{}\"\nstore = \"memory\"\n[limits]\nconnections_per_address = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         token_file = \"TOKEN\"\n{}",
        origin.address,
        listen(&[&pair], "")
    ));
    let tls = running.tls.unwrap();
    drop(authority.connect("127.0.0.1", &[], tls).await.unwrap());
    assert!(authority.connect("unknown.example", &[], tls).await.is_err());
    running.until("cachepage_tls_handshakes_total{result=\"failed\",version=\"\"}", 1.0).await;
    running.until("cachepage_connections{state=\"idle\"}", 0.0).await;
    let expires =
        format!("cachepage_certificate_expiry_timestamp_seconds{{name=\"{}\"}}", pair.cert.display());
    running.assert_samples(&[(&expires, seconds)]).await;
    let _held = [Client::connect(running.proxy).await, Client::connect(running.proxy).await];
    running.until("cachepage_connections{state=\"idle\"}", 2.0).await;
    assert_eq!(running.get("/", "").await.status(), 429);
    running
        .assert_samples(&[
            ("cachepage_tls_handshakes_total{result=\"ok\",version=\"1.3\"}", 1),
            ("cachepage_tls_handshakes_total{result=\"ok\",version=\"1.2\"}", 0),
            ("cachepage_connections_refused_total{limit=\"connections_per_address\"}", 1),
            ("cachepage_connections_refused_total{limit=\"connections\"}", 0),
            ("cachepage_requests_total{outcome=\"refused\",rule=\"\"}", 1),
        ])
        .await;
}

#[tokio::test]
async fn near_hits_and_leases_are_counted() {
    let (redis, origin) = (Backend::start().unwrap(), Origin::pages("").await);
    let running = Running::of(&format!(
        "origin = \"http://{}\"\nstore = \"{}\"\nnear = \"8MiB\"\ndeadlines.store = \"2s\"\n[[cache_page]]\npath = \"/p/*\"\ncoalesce = \"fleet\"\n[admin]\n\
         listen = \"127.0.0.1:0\"\ntoken_file = \"TOKEN\"\n",
        origin.address,
        redis.url()
    ));
    running.until("cachepage_near_certain", 1.0).await;
    // Until a page that was read from Redis is near.
    let near = async {
        while sample(&running.metrics().await, "cachepage_near_hits_total") < 1.0 {
            running.get("/p/1", "").await;
        }
    };
    timeout(PATIENCE, near).await.unwrap();
    running
        .assert_samples(&[
            ("cachepage_leases_total{result=\"ours\"}", 1),
            ("cachepage_leases_total{result=\"theirs\"}", 0),
            ("cachepage_fills_total{result=\"stored\"}", 1),
            ("cachepage_near_entries", 1),
            ("cachepage_store_operations_total{op=\"setex\",result=\"ok\"}", 1),
            ("cachepage_store_operations_total{op=\"set\",result=\"ok\"}", 1),
            ("cachepage_store_operations_total{op=\"get\",result=\"down\"}", 0),
            ("cachepage_store_duration_seconds_count{op=\"setex\"}", 1),
        ])
        .await;
    let metrics = running.metrics().await;
    assert!(sample(&metrics, "cachepage_invalidations_total") > 0.0);
    assert!(sample(&metrics, "cachepage_store_operations_total{op=\"get\",result=\"miss\"}") >= 1.0);
    assert!(sample(&metrics, "cachepage_store_operations_total{op=\"get\",result=\"ok\"}") >= 1.0);
}

/// The names of the families in a text.
fn families(metrics: &str) -> BTreeSet<&str> {
    metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn the_documentation_lists_each_family_and_no_other() {
    let origin = Origin::pages("").await;
    let metrics = Running::over_tcp(&origin).await.metrics().await;
    let docs = include_str!("../../../docs/admin.md");
    let rows = docs.split_once("## Metrics").unwrap().1.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    assert_eq!(names.collect::<BTreeSet<_>>(), families(&metrics));
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let origin = scripted().await;
    let running = Running::over_tcp(&origin).await;
    running.get("/p/1", "").await;
    running.get("/other", "").await;
    let metrics = running.ask("GET", "/metrics", "").await;
    let mut families = metrics.text().lines().filter(|line| line.starts_with("# ")).peekable();
    assert!(families.peek().is_some());
    while let (Some(help), Some(kind)) = (families.next(), families.next()) {
        let name = help.strip_prefix("# HELP ").and_then(|help| help.split(' ').next()).unwrap();
        assert!(kind.starts_with(&format!("# TYPE {name} ")), "{help}\n{kind}");
    }
    let open =
        running.ask("GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n").await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(
        open.text().ends_with("\n# EOF\n") && open.text().contains("# TYPE cachepage_requests counter\n")
    );
    // In Debian's package prometheus, which no test installs: it starts a server of its own.
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("promtool is not on the PATH: the metrics were checked for HELP and TYPE alone");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.text().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
