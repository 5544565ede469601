//! Requests recorded against the real application (Django 5.2.19, DRF 3.18.3, JSON renderer only, no authentication).
//! Each must get the recorded answer: status, headers in their order, and body, byte for byte.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::{fixture, send, start, tests_folder};

/// Headers that a server adds for the connection, and our own `Server-Timing` and `Surrogate-Key`.
const NOT_COMPARED: [&str; 6] =
    ["server", "date", "connection", "transfer-encoding", "server-timing", "surrogate-key"];

/// Headers that `cache_page` added to the recorded answers of the cached view. Here the proxy adds them.
const OF_CACHE_PAGE: [&str; 3] = ["expires", "cache-control", "age"];

/// One test for each recording, with its name; and a test that no recording lacks one.
macro_rules! recordings {
    ($($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            replay(stringify!($name)).await;
        })*

        #[test]
        fn every_recording_has_a_test() {
            let tests = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            assert_eq!(recorded(), tests);
        }
    };
}

recordings! {
    cached_head_hit
    cached_no_slash
    cached_options
    cached_page3_hit
    cached_page3_miss
    cached_page_abc_404
    cached_post
    naive_accept_app_star
    naive_accept_charset
    naive_accept_empty
    naive_accept_encoding_gzip
    naive_accept_garbage
    naive_accept_html
    naive_accept_html_page_abc
    naive_accept_json
    naive_accept_json_indent
    naive_accept_json_low_q
    naive_accept_json_q0
    naive_accept_missing
    naive_accept_text_star
    naive_accept_xml
    naive_basic_auth_bad
    naive_basic_auth_malformed
    naive_bearer_auth
    naive_cookie
    naive_delete
    naive_double_slash
    naive_format_api
    naive_format_empty
    naive_format_json
    naive_format_xml
    naive_get_with_body
    naive_head
    naive_head_page_abc
    naive_host_bad
    naive_host_ipv6
    naive_host_port80
    naive_host_underscore
    naive_method_override
    naive_no_slash
    naive_no_slash_post
    naive_no_slash_query
    naive_options
    naive_page1
    naive_page2
    naive_page2_format_json
    naive_page3
    naive_page_0
    naive_page_1_explicit
    naive_page_4
    naive_page_5000_digits
    naive_page_999999
    naive_page_abc
    naive_page_arabic_digit
    naive_page_empty
    naive_page_float
    naive_page_huge
    naive_page_last
    naive_page_leading_zero
    naive_page_negative
    naive_page_plus
    naive_page_repeated
    naive_page_size_ignored
    naive_page_space
    naive_page_underscore
    naive_patch
    naive_post
    naive_put
    naive_query_badutf8
    naive_query_kept
    naive_query_plus_enc
    naive_query_semicolon
    naive_trace
    naive_unknown_method
    naive_xfh_ignored
    optimized_options
    optimized_page1
    optimized_page3
    path_newline
    path_percent_encoded
    path_uppercase
    root
    unknown_api_path
    unknown_path
    unknown_path_no_slash
    unknown_post
}

/// The names of all recordings, as the tests have them.
fn recorded() -> BTreeSet<String> {
    let files = std::fs::read_dir(tests_folder("recorded")).unwrap().map(|entry| entry.unwrap().path());
    let requests = files.filter(|path| path.extension().is_some_and(|extension| extension == "req"));
    requests.map(|path| path.file_stem().unwrap().to_str().unwrap().replace('-', "_")).collect()
}

/// The origin that all recordings are replayed on. It has a thread of its own, because the runtime of a test ends with
/// the test.
fn origin() -> SocketAddr {
    static ORIGIN: OnceLock<SocketAddr> = OnceLock::new();
    let starting = || {
        let (started, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.unwrap().block_on(async {
                started.send(start(&fixture("recorded"), &[]).await).unwrap();
                std::future::pending::<()>().await;
            });
        });
        address.recv().unwrap()
    };
    *ORIGIN.get_or_init(starting)
}

async fn replay(test: &str) {
    let name = test.replace('_', "-");
    let file = |extension: &str| {
        std::fs::read(tests_folder("recorded").join(format!("{name}.{extension}"))).unwrap()
    };
    let answer = parse(&name, &send(origin(), &file("req")).await);
    assert_eq!(answer, parse(&name, &file("http")));
}

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
    // gunicorn sent these two in chunks, the origin sends their length: the framing is not compared.
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
