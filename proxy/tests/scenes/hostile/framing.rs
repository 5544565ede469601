//! The framing of requests: a request whose end is ambiguous is refused (inputs 1 to 14, 42, 49 and 52 of
//! docs/hostile.md).

use super::{all_refused, echo, everything, is_well, last_words};
use crate::support::{Origin, Scene, Setup};

scenes! {
    h1_a_length_and_chunks_are_refused
    h1_a_length_and_chunks_are_refused_however_they_arrive
    h1_no_request_is_read_after_a_chunked_request
    h2_h3_invalid_lengths_are_refused
    h4_h5_h6_other_transfer_codings_than_chunked_are_refused
    h4_h8_variants_of_framing_are_forwarded_in_one_form
    h7_h8_invalid_chunks_are_refused
    h9_h10_h11_invalid_bytes_in_a_head_are_refused
    h12_one_empty_line_before_a_request_is_accepted_and_no_more
    h13_the_body_of_a_get_is_dropped
    h14_the_bytes_after_an_upgrade_are_an_ordinary_request
    h42_h49_other_protocols_are_refused
    h52_trailers_are_dropped
}

async fn h1_a_length_and_chunks_are_refused(on: Setup) {
    all_refused(
        on,
        400,
        &[
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\ncontent-length:0\r\ntransfer-encoding:chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /p/ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 3\n\n0\r\n\r\n",
        ],
    )
    .await;
}

/// The head arrives byte by byte, and together with a valid request before it.
async fn h1_a_length_and_chunks_are_refused_however_they_arrive(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let good = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    let bad =
        b"POST /evil HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut client = scene.connect().await;
    for byte in &bad[..bad.len() - 5] {
        client.write(&[*byte]).await;
    }
    assert_eq!(client.reply(true).await.status(), 400);
    assert_eq!(origin.count(), 0);

    let mut client = scene.connect().await;
    client.write(&[&good[..], &bad[..]].concat()).await;
    assert_eq!(client.reply(true).await.text(), "page 1");
    assert_eq!(client.reply(true).await.status(), 400);
    assert!(client.is_closed().await);
    assert_eq!(origin.count(), 1);
    is_well(&scene).await;
}

/// The proxy closes a connection after a chunked request, so it never reads a head that it has not checked.
async fn h1_no_request_is_read_after_a_chunked_request(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    let chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    client.write(&[&chunked[..], b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
    let reply = client.reply(true).await;
    assert_eq!((reply.status(), reply.header("connection")), (200, "close"));
    assert!(client.is_closed().await);
    assert_eq!(origin.count(), 1);
}

async fn h2_h3_invalid_lengths_are_refused(on: Setup) {
    all_refused(
        on,
        400,
        &[
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length:  5_0\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcde",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\nabcde",
        ],
    )
    .await;
}

/// A tab before the value is not among these: it is white space like a space (RFC 9110 §5.6.3), as the next test shows.
async fn h4_h5_h6_other_transfer_codings_than_chunked_are_refused(on: Setup) {
    all_refused(
        on,
        400,
        &[
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /p/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

async fn h4_h8_variants_of_framing_are_forwarded_in_one_form(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    for request in [
        &b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"[..],
        b"POST /x HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\n\n2\r\nab\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\nHost: a\ntransfer-encoding:   chunked   \r\n\n002;ext=\"1\"\r\nab\r\n0\r\n\r\n",
    ] {
        let text = last_words(&scene, request).await;
        let text = text.text().to_ascii_lowercase();
        assert!(text.starts_with("post /x http/1.1\n") && text.ends_with("\nab"), "{text}");
        assert!(text.contains("\ntransfer-encoding: chunked\n"), "{text}");
    }
}

/// An invalid chunk ends the request.
async fn h7_h8_invalid_chunks_are_refused(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    for chunks in [
        &b"10000000000000000\r\nab\r\n0\r\n\r\n"[..],
        b"fffffffffffffffff\r\nab\r\n0\r\n\r\n",
        b"-2\r\nab\r\n0\r\n\r\n",
        b"+2\r\nab\r\n0\r\n\r\n",
        b"0x2\r\nab\r\n0\r\n\r\n",
        b"\r\nab\r\n0\r\n\r\n",
        b";\r\nab\r\n0\r\n\r\n",
        b"g\r\nab\r\n0\r\n\r\n",
        b"2\nab\r\n0\r\n\r\n",
        b"2\r\nab\n0\r\n\r\n",
        b"2\r\nabc\r\n0\r\n\r\n",
        b"2;\nab\r\n0\r\n\r\n",
    ] {
        let head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let smuggled = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
        let reply = last_words(&scene, &[head, chunks, smuggled].concat()).await;
        assert_eq!(reply.status(), 400, "{}", chunks.escape_ascii());
        is_well(&scene).await;
    }
    assert!(origin.seen().iter().all(|seen| !seen.line.contains("evil")));
}

async fn h9_h10_h11_invalid_bytes_in_a_head_are_refused(on: Setup) {
    all_refused(
        on,
        400,
        &[
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nX\x7f: b\r\n\r\n",
            b"GET /p/\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    .await;
}

async fn h12_one_empty_line_before_a_request_is_accepted_and_no_more(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let get = "GET /p/well HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
    assert_eq!(scene.send(&format!("\r\n{get}")).await.text(), "page 1");
    for lines in ["\r\n\r\n", "\n\n\n", &"\r\n".repeat(100_000)] {
        assert_eq!(last_words(&scene, format!("{lines}{get}").as_bytes()).await.status(), 400);
    }
    is_well(&scene).await;
}

/// The body of a GET does not select a page, so the proxy drops it: it must influence no shared page, reach no origin,
/// and not be read as the next request.
async fn h13_the_body_of_a_get_is_dropped(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let smuggled = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let with_length = format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let chunked =
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (body, x_cache) in [(&with_length, "MISS"), (&with_length, "HIT"), (&chunked, "HIT")] {
        let mut client = scene.connect().await;
        client.write(format!("GET /p/fat HTTP/1.1\r\nHost: localhost:8000\r\n{body}").as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.header("x-cache")), (200, x_cache));
        let text = reply.text().to_ascii_lowercase();
        assert!(!text.contains("content-length") && !text.contains("evil"), "{text}");
        client.try_write(b"GET /p/next HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n").await;
        let rest = everything(&mut client).await;
        assert!(rest.is_empty() || rest.contains("GET /p/next "), "{rest}");
        is_well(&scene).await;
    }
    let chunked = scene.send(&format!("GET /p/fat2 HTTP/1.1\r\nHost: localhost:8000\r\n{chunked}")).await;
    assert!(!chunked.text().to_ascii_lowercase().contains("transfer-encoding"), "{}", chunked.text());
    assert!(origin.seen().iter().all(|seen| !seen.line.contains("evil") && seen.body.is_empty()));
}

/// The proxy does not forward an upgrade, so the bytes after it are the next request.
async fn h14_the_bytes_after_an_upgrade_are_an_ordinary_request(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client
        .write(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n\
              GET /next HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        )
        .await;
    let first = client.reply(true).await.text().to_ascii_lowercase();
    assert!(!first.contains("upgrade") && !first.contains("http2-settings"), "{first}");
    let second = client.reply(true).await;
    assert!(
        second.text().starts_with("GET /next ") && !second.text().contains("6.6.6.6"),
        "{}",
        second.text()
    );
    assert_eq!(origin.count(), 2);
}

/// The proxy does not speak the PROXY protocol, HTTP/2 or TLS here: their first bytes are not a request.
async fn h42_h49_other_protocols_are_refused(on: Setup) {
    for preface in [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /p/ HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET /p/\r\n\r\n",
        b"GET /p/ HTTP/3.0\r\nHost: a\r\n\r\n",
    ] {
        let origin = Origin::pages("").await;
        let scene = Scene::new(on, &origin).await;
        let mut client = scene.connect().await;
        client.write(preface).await;
        let said = everything(&mut client).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{}: {said}", preface.escape_ascii());
        assert_eq!(origin.count(), 0);
        is_well(&scene).await;
    }
}

async fn h52_trailers_are_dropped(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let request = b"POST /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n\
                    2\r\nab\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: evil\r\nX-T: 1\r\n\r\n";
    let reply = last_words(&scene, request).await;
    assert_eq!(reply.status(), 200);
    let text = reply.text().to_ascii_lowercase();
    for name in ["content-length", "evil", "x-t", "trailer"] {
        assert!(!text.contains(name), "{text}");
    }
    is_well(&scene).await;
}
