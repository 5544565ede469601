//! `compress` on a rule: a page is stored as it came and compressed, and each client gets the form that it likes best.

use std::io::Read as _;

use proxy::MemoryStore;

use crate::backend::Backend;
use crate::support::{Origin, Reply, Scene, Script, Setup, heard, page};

scenes! {
    each_client_gets_the_best_form_of_one_page
    conditions_are_those_of_the_form_and_ranges_those_of_identity
    a_renewed_page_keeps_its_forms
    a_purge_takes_every_form
    a_query_has_forms
}

const COMPRESS: &str = "compress = [\"zstd\", \"br\", \"gzip\"]\n";

fn rules(more: &str) -> String {
    format!("[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n{COMPRESS}{more}")
}

/// A page that compresses well.
fn text(number: usize) -> String {
    (0..200).map(|line| format!("<p>page {number}, line {line}</p>\n")).collect()
}

/// An origin whose pages are these texts.
async fn texts(headers: &'static str) -> Origin {
    Origin::new(move |_, number| Script::Answer(page(headers, &text(number)))).await
}

/// The content as a client decodes it.
fn decoded(reply: &Reply) -> String {
    let mut text = String::new();
    let body = &reply.body[..];
    match reply.header("content-encoding") {
        "" => return reply.text().to_owned(),
        "zstd" => ruzstd::decoding::StreamingDecoder::new(body).unwrap().read_to_string(&mut text).unwrap(),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text).unwrap(),
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap(),
        other => panic!("{other}"),
    };
    text
}

async fn accepting(scene: &Scene, target: &str, codings: &str) -> Reply {
    scene.get_with(target, &format!("Accept-Encoding: {codings}\r\n")).await
}

async fn each_client_gets_the_best_form_of_one_page(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = texts("").await;
    for keys in ["path", "django"] {
        redis.cli(&["FLUSHALL"]).unwrap();
        let settings = format!("keys = {keys:?}\n{}", rules(""));
        let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
        let first = accepting(&scene, "/p/", "gzip, br, zstd").await;
        assert_eq!(first.cache(), "MISS fwd=uri-miss; stored");
        let stored = redis.cli(&["DBSIZE"]).unwrap();
        let sent = |reply: &Reply| (reply.header("content-encoding").to_owned(), reply.body.len());
        assert_eq!(sent(&first).0, "", "the client that fills gets the page as it comes");
        for _ in 0..2 {
            for (codings, expected) in [
                ("gzip, deflate, br, zstd", "zstd"),
                ("gzip, deflate, br", "br"),
                ("gzip", "gzip"),
                ("x-gzip", "gzip"),
                ("*", "zstd"),
                ("*, zstd;q=0", "br"),
                ("zstd;q=0.1, br;q=0.2, gzip;q=0.3", "gzip"),
                ("identity;q=0, gzip;q=0.1", "gzip"),
                ("identity, gzip;q=0.9", ""),
                ("gzip;q=0", ""),
                ("deflate", ""),
                ("", ""),
            ] {
                let reply = accepting(&scene, "/p/", codings).await;
                let detail = if expected.is_empty() { String::new() } else { format!("; detail={expected}") };
                assert_eq!(reply.cache(), format!("HIT hit; ttl=60{detail}"), "{codings}");
                assert_eq!(reply.header("content-encoding"), expected, "{codings}");
                assert_eq!(reply.header("vary"), "Accept-Encoding", "{codings}");
                assert_eq!(decoded(&reply), decoded(&first), "{codings}");
                assert_eq!(reply.header("content-length"), reply.body.len().to_string());
                assert_eq!(reply.body.len() < first.body.len() / 2, !expected.is_empty(), "{codings}");
                let head = "HEAD /p/ HTTP/1.1\r\nHost: localhost:8000\r\n";
                let head = scene.send(&format!("{head}Accept-Encoding: {codings}\r\n\r\n")).await;
                for name in ["content-encoding", "content-length", "vary", "content-type"] {
                    assert_eq!(head.header(name), reply.header(name), "{name} of a HEAD");
                }
            }
        }
        assert_eq!(redis.cli(&["DBSIZE"]).unwrap(), stored, "the forms have no keys of their own");
    }
    assert_eq!(origin.count(), 2);
}

const MODIFIED: &str = "Sun, 22 Nov 2026 20:09:06 GMT";

async fn conditions_are_those_of_the_form_and_ranges_those_of_identity(on: Setup) {
    let headers = format!("ETag: \"a\"\r\nLast-Modified: {MODIFIED}\r\n");
    let origin = Origin::new(move |_, _| Script::Answer(page(&headers, &text(1)))).await;
    let scene = Scene::own(on, &origin, &rules("")).await;
    let whole = text(1);
    let dated = format!("Range: bytes=0-9\r\nIf-Range: {MODIFIED}\r\n");
    for is_hit in [false, true, true] {
        for (lines, status, etag, is_coded, content) in [
            ("Range: bytes=0-9\r\n", 206, "\"a\"", false, &whole[..10]),
            ("Range: bytes=0-9\r\nIf-Range: \"a\"\r\n", 206, "\"a\"", false, &whole[..10]),
            // It may be the date of another form, of which the client has the beginning.
            (&dated, 200, "W/\"a\"", true, &whole),
            ("Range: bytes=0-9\r\nIf-Range: W/\"a\"\r\n", 200, "W/\"a\"", true, &whole),
            (
                "Range: bytes=99999-\r\n",
                416,
                "\"a\"",
                false,
                "416: the range begins behind the end of the page\n",
            ),
            ("If-None-Match: W/\"a\"\r\n", 304, "W/\"a\"", true, ""),
            ("If-None-Match: \"a\"\r\n", 304, "W/\"a\"", true, ""),
            ("If-None-Match: \"b\"\r\n", 200, "W/\"a\"", true, &whole),
        ] {
            let target = if is_hit { "/p/".to_owned() } else { format!("/p/{}", lines.len()) };
            let reply = scene.get_with(&target, &format!("Accept-Encoding: br\r\n{lines}")).await;
            assert_eq!(reply.status(), status, "{lines}");
            assert_eq!(reply.header("vary"), "Accept-Encoding", "{lines}");
            // A miss is answered with identity.
            let is_coded = is_coded && reply.header("x-cache") == "HIT";
            assert_eq!(reply.header("etag"), if is_coded { etag } else { "\"a\"" }, "{lines}");
            let has_coding = !reply.header("content-encoding").is_empty();
            assert_eq!(has_coding, is_coded && status == 200, "{lines}");
            if reply.header("x-cache") == "HIT" {
                assert_eq!(decoded(&reply), content, "{lines}");
            }
        }
        scene.get("/p/").await;
    }
}

async fn a_renewed_page_keeps_its_forms(on: Setup) {
    let origin = Origin::new(|seen, _| {
        let headers = "Cache-Control: max-age=0\r\nVary: Accept\r\nETag: \"a\"\r\n";
        Script::Answer(match seen.header("if-none-match") {
            Some(tag) => {
                assert_eq!(tag, "\"a\"");
                b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=99999999\r\nVary: Accept\r\nETag: \"a\"\r\n\r\n".to_vec()
            }
            None => page(headers, &text(7)),
        })
    })
    .await;
    let scene = Scene::own(on, &origin, &rules("policy = \"http\"\n")).await;
    for expected in ["MISS fwd=uri-miss; stored", "MISS fwd=stale; fwd-status=304; stored"] {
        let reply = accepting(&scene, "/p/", "br").await;
        assert_eq!((reply.cache().as_str(), reply.header("content-encoding")), (expected, ""));
        assert_eq!(decoded(&reply), text(7));
    }
    for (codings, detail) in [("br", "; detail=br"), ("gzip", "; detail=gzip"), ("", "")] {
        let reply = accepting(&scene, "/p/", codings).await;
        assert_eq!(reply.cache(), format!("HIT hit; ttl=60{detail}"));
        assert_eq!(decoded(&reply), text(7));
    }
    assert_eq!(origin.count(), 2);
}

async fn a_purge_takes_every_form(on: Setup) {
    let origin = texts("").await;
    let settings = rules("[purge]\nallow = [\"127.0.0.1\"]\n");
    let scene = Scene::own(on, &origin, &settings).await;
    for number in 1..=2 {
        accepting(&scene, "/p/", "br").await;
        for codings in ["br", "gzip", ""] {
            assert_eq!(decoded(&accepting(&scene, "/p/", codings).await), text(number));
        }
        let purge = "PURGE /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
        assert_eq!(scene.send(purge).await.status(), 200);
        heard(on).await;
    }
    assert_eq!(origin.count(), 2);
}

async fn a_query_has_forms(on: Setup) {
    let origin = texts("").await;
    let scene = Scene::own(on, &origin, &rules("methods = [\"GET\", \"QUERY\"]\n")).await;
    let query =
        "QUERY /p/ HTTP/1.1\r\nHost: localhost:8000\r\nAccept-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc";
    for coding in ["", "gzip"] {
        let reply = scene.send(query).await;
        assert_eq!((reply.header("content-encoding"), decoded(&reply)), (coding, text(1)));
    }
}

#[tokio::test]
async fn a_page_that_is_compressed_small_or_no_text_is_left_alone() {
    let origin = Origin::new(|seen, _| {
        let body = text(1);
        Script::Answer(match seen.line.split(' ').nth(1).unwrap() {
            "/p/coded" => page("Content-Encoding: gzip\r\n", &body),
            "/p/small" => page("", &body[..1000]),
            "/p/exact" => page("Cache-Control: no-transform\r\n", &body),
            _ => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        })
    })
    .await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &rules("")).await;
    for target in ["/p/coded", "/p/small", "/p/exact", "/p/image"] {
        let first = accepting(&scene, target, "zstd").await;
        let hit = accepting(&scene, target, "zstd").await;
        assert_eq!((first.header("x-cache"), hit.header("x-cache")), ("MISS", "HIT"), "{target}");
        let shown = |reply: &Reply| {
            let names = ["vary", "content-encoding", "content-length"];
            names.map(|name| reply.header(name).to_owned())
        };
        assert_eq!(shown(&first), shown(&hit), "{target}");
        assert_eq!((hit.header("vary"), hit.body == first.body), ("", true), "{target}");
    }
}

/// The forms count in `max_entry`: what would not fit is left out, and the page is stored all the same.
#[tokio::test]
async fn a_page_and_its_forms_have_the_limit_of_a_page() {
    let origin = texts("").await;
    let settings = format!("max_entry = {:?}\n{}", format!("{}B", text(1).len() + 100), rules(""));
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for cache in ["MISS fwd=uri-miss; stored", "HIT hit; ttl=60"] {
        let reply = accepting(&scene, "/p/", "br").await;
        assert_eq!((reply.cache().as_str(), reply.header("content-encoding")), (cache, ""));
    }
}
