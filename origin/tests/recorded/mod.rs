//! Every request that was recorded against the real application (Django 5.2.19, DRF 3.18.3, JSON renderer only, no
//! authentication) gets the recorded answer: status, headers in their order, and body, byte for byte.

use crate::{fixture, send, start, tests_folder};

/// What a server adds for the connection, and what is ours by design.
const NOT_COMPARED: [&str; 5] = ["server", "date", "connection", "transfer-encoding", "server-timing"];

/// `cache_page` gave the recorded answers of the cached view these: with us the proxy does.
const OF_CACHE_PAGE: [&str; 3] = ["expires", "cache-control", "age"];

/// An answer without its framing.
#[derive(Debug, PartialEq)]
struct Answer {
    line: String,
    headers: Vec<String>,
    body: String,
}

fn parse(name: &str, bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let lines: Vec<_> = lines.collect();
    let chunked = lines.iter().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    let body = if chunked { unchunk(&bytes[end + 4..]) } else { bytes[end + 4..].to_vec() };
    let headers = lines.into_iter().filter(|line| is_compared(name, line));
    Answer { line, headers: headers.collect(), body: String::from_utf8(body).unwrap() }
}

fn is_compared(name: &str, line: &str) -> bool {
    let header = line.split(':').next().unwrap().to_ascii_lowercase();
    let cached = name.starts_with("cached-") && OF_CACHE_PAGE.contains(&header.as_str());
    // gunicorn sent these two in chunks, we send their length: that is framing.
    let framing =
        header == "content-length" && (name.contains("no-slash") || name.starts_with("naive-host-"));
    !NOT_COMPARED.contains(&header.as_str()) && !cached && !framing
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|part| part == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
        if size == 0 {
            return body;
        }
    }
}

#[tokio::test]
async fn every_recorded_request_gets_the_recorded_answer() {
    let address = start(&fixture("recorded"), &[]).await;
    let mut compared = 0;
    for entry in std::fs::read_dir(tests_folder("recorded")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "req") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let answer = parse(name, &send(address, &std::fs::read(&path).unwrap()).await);
        let recorded = parse(name, &std::fs::read(path.with_extension("http")).unwrap());
        // Title case makes `Www` of `WWW`; names are compared without case, values as they are.
        assert_eq!(answer, recorded, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 86);
}
