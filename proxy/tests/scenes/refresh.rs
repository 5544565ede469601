//! Pages that are fetched anew when they are purged.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use tempfile::NamedTempFile;
use tokio::time::{Duration, Instant, sleep};

use crate::program::command;
use crate::support::{Origin, PATIENCE, exchange};

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_page_that_clients_ask_for_is_fetched_before_they_ask_again() {
    let origin = Origin::pages("").await;
    let settings = NamedTempFile::new().unwrap();
    let text = format!(
        "origin = \"http://{}\"\nstore = \"memory\"\n[purge]\nallow = [\"127.0.0.1\"]\n\
         [[cache_page]]\npath = \"/warm/*\"\nrefresh_on_purge = true\n[[cache_page]]\npath = \"/cold/*\"\n",
        origin.address
    );
    std::fs::write(settings.path(), text).unwrap();
    let mut child = command(&["--config", settings.path().to_str().unwrap(), "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let proxy = line.trim().strip_prefix("proxy listening on http://").unwrap().parse().unwrap();
    let ask = async |method: &str, path: &str| {
        exchange(proxy, format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await
    };
    for path in ["/cold/1?a=b", "/warm/1?a=b", "/warm/2"] {
        ask("GET", path).await;
        while ask("GET", path).await.header("x-cache") != "HIT" {}
        // The sample has one hit a millisecond.
        sleep(Duration::from_millis(2)).await;
        ask("GET", path).await;
    }
    ask("GET", "/warm/asked-once").await;
    let before = origin.count();
    for path in ["/cold/1", "/warm/1", "/warm/asked-once"] {
        assert_eq!(ask("PURGE", path).await.status(), 200);
    }
    let until = Instant::now() + PATIENCE;
    while origin.count() == before && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(origin.count(), before + 1, "before a client asks");
    while ask("GET", "/warm/1?a=b").await.header("x-cache") != "HIT" && Instant::now() < until {}
    assert_eq!(origin.count(), before + 1, "neither the other rule's page nor one that nobody asks for");
    assert_eq!(ask("GET", "/warm/2").await.header("x-cache"), "HIT", "it was not purged");
    assert_eq!(ask("GET", "/cold/1?a=b").await.header("x-cache"), "MISS");
    child.kill().unwrap();
    child.wait().unwrap();
}
