//! `proxy forecast`: it says beforehand what the proxy then does, it reads the logs of real servers, and it says what it
//! cannot read.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::time::interval;

use crate::program::{Running, run};
use crate::support::{Origin, Script, answer, exchange};

/// How many pages are asked for, and how often one is.
const PAGES: u32 = 60;
const VISITS: u32 = 600;

/// Visits that each take their turn, some pages often and most seldom.
fn page(visit: u32) -> u32 {
    let scattered = visit.wrapping_mul(2_654_435_761) >> 8;
    (scattered % PAGES) * (scattered / PAGES % PAGES) / PAGES
}

fn forecast(args: &[&str]) -> Value {
    let output = run(&[&["forecast", "--json"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A request of a visitor: mostly a GET of a page, at times a POST, or for another host.
fn request(visit: u32, language: &str) -> String {
    let method = if visit % 11 == 3 { "POST" } else { "GET" };
    let host = if visit % 5 == 1 { "b.example" } else { "a.example" };
    let page = page(visit);
    format!(
        "{method} /p/{page} HTTP/1.1\r\nHost: {host}\r\nAccept-Language: {language}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// An origin with pages of all kinds: most may be stored, some are missing, some are for one visitor.
async fn mixed_origin(headers: &'static str) -> Origin {
    Origin::new(move |seen, number| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let page: u32 = path.trim_start_matches("/p/").parse().unwrap();
        Script::Answer(match page % 10 {
            7 => answer("404 Not Found", "", "missing"),
            8 => answer("200 OK", "Set-Cookie: a=b\r\n", "personal"),
            _ => answer("200 OK", headers, &format!("page {number}")),
        })
    })
    .await
}

/// Serves the visits, and returns the share that the forecast foresees from the log of the proxy, and the share that the
/// origin was spared.
async fn foreseen_and_measured(headers: &'static str, language: fn(u32) -> &'static str) -> (f64, f64) {
    let origin = mixed_origin(headers).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("cachepage.toml");
    let log = folder.path().join("access.log");
    fs::write(&settings, format!("[log]\naccess = {log:?}\nformat = \"json\"\n")).unwrap();
    let proxy = Running::start(&[
        "--config",
        settings.to_str().unwrap(),
        "--origin",
        &format!("http://{}", origin.address),
        "--store",
        "memory",
        "--cache",
        "/p/*=1",
    ]);
    let address = proxy.address.parse().unwrap();
    let mut pace = interval(Duration::from_millis(4));
    for visit in 0..VISITS {
        pace.tick().await;
        exchange(address, request(visit, language(visit)).as_bytes()).await;
    }
    let (code, _) = proxy.end("-TERM");
    assert_eq!(code, Some(0));
    let found = forecast(&["--cache", "/p/*=1", log.to_str().unwrap()]);
    assert_eq!((&found["requests"], &found["unread_lines"]), (&VISITS.into(), &0.into()));
    let foreseen = found["as_set"]["hit_ratio"].as_f64().unwrap();
    let measured = 1.0 - origin.count() as f64 / f64::from(VISITS);
    assert!((0.2..0.9).contains(&measured), "the load shows nothing: {measured}");
    (foreseen, measured)
}

#[tokio::test]
async fn the_forecast_of_a_log_is_what_the_proxy_then_does() {
    let (foreseen, measured) = foreseen_and_measured("", |_| "en").await;
    assert!((foreseen - measured).abs() < 0.02, "foreseen {foreseen}, measured {measured}");
}

/// A log does not tell what pages vary on.
#[tokio::test]
async fn the_forecast_is_an_upper_bound_for_pages_that_vary() {
    let language = |visit: u32| if visit % 8 == 2 { "de" } else { "en" };
    let (foreseen, measured) = foreseen_and_measured("Vary: Accept-Language\r\n", language).await;
    assert!((measured..measured + 0.2).contains(&foreseen), "foreseen {foreseen}, measured {measured}");
}

/// The same nine requests, as real servers logged them: three of `/blog/a`, two of other posts, a page that is missing, one
/// of a visitor with a name, a POST, and a HEAD of `/blog/a`.
#[test]
fn the_logs_of_servers_are_read() {
    for (log, is_timed) in [
        ("nginx.log", false),
        ("nginx-timed.log", true),
        ("nginx.json", true),
        ("apache.log", true),
        ("gunicorn.log", false),
    ] {
        let path = format!("{}/tests/logs/{log}", env!("CARGO_MANIFEST_DIR"));
        let found = forecast(&["--cache", "/blog/*=60", &path]);
        assert_eq!((&found["requests"], &found["unread_lines"]), (&9.into(), &0.into()), "{log}");
        let rule = &found["rules"][0];
        assert_eq!((&rule["path"], &rule["requests"]), (&"/blog/*".into(), &6.into()), "{log}");
        let minute = rule["gains"].as_array().unwrap().iter().find(|gain| gain["timeout"] == 60).unwrap();
        assert_eq!(minute["hits"], 3, "{log}");
        let spared = minute["spared_seconds"].as_f64().unwrap();
        assert_eq!((0.05..0.2).contains(&spared), is_timed, "{log}: {spared}");
        let personal = found["personal_paths"].as_array().unwrap();
        // Apache was configured without users.
        assert_eq!(personal.iter().any(|path| path["path"] == "/account/"), log != "apache.log", "{log}");
    }
}

#[test]
fn a_forecast_without_rules_proposes_some_and_writes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let (log, page) = (folder.path().join("access.log"), folder.path().join("forecast.html"));
    let line = |second: usize, client: usize, path: &str| {
        format!("10.0.0.{client} - - [27/Nov/2026:01:02:{second:02} +0000] \"GET {path} HTTP/1.1\" 200 900\n")
    };
    let of = |second| {
        let article = line(second, second % 7, &format!("/blog/{}", second % 3));
        let own = line(second, second % 3, &format!("/cart/{}?<b>", second % 3));
        article + &own + "nonsense\n"
    };
    std::fs::write(&log, (0..50).map(of).collect::<String>()).unwrap();
    let args = ["forecast", log.to_str().unwrap(), "--html", page.to_str().unwrap()];
    let output = run(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "100 requests in 150 lines, 50 that are none of an access log",
        "Try them: proxy --cache '/blog/*=60'\n",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("/cart/0  (each page has one visitor)"), "{text}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<code>/blog/*</code>") && !page.contains("<b>"), "{page}");
}

#[test]
fn a_log_that_cannot_be_read_is_named() {
    let output = run(&["forecast", "/nowhere/access.log"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("error: /nowhere/access.log: No such file"), "{said}");
    assert_eq!(run(&["forecast"]).status.code(), Some(2));
}
