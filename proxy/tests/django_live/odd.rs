//! The proxy stores odd pages of another origin. Django never answers 500 to them, and serves what the proxy serves.

use crate::pages::verdict;
use crate::random::Random;
use crate::site::{ALL, CACHES, NEW, Site, ask};
use crate::support::{Origin, Script};
use crate::venv::djangos;

const PAGES: usize = 120;

const LINES: [&[u8]; 54] = [
    b"Cache-Control: max-age=10",
    b"Cache-Control: max-age=abc",
    b"Cache-Control: max-age",
    b"Cache-Control: max-age=\"5\"",
    b"Cache-Control: MAX-AGE=7, max-age=x",
    b"Cache-Control: max-age=-5, public",
    b"Cache-Control: max-age=1_0",
    b"Cache-Control: max-age=99999999999999999999",
    b"Cache-Control: s-maxage=1",
    b"Cache-Control: ,,=,",
    b"Cache-Control:",
    b"Cache-Control: max-age = 5",
    b"Cache-Control: public, x=caf\xe9",
    b"Expires: 0",
    b"Expires: -1",
    b"Expires:",
    b"Expires: Thu, 01 Jan 1970 00:00:00 GMT",
    b"Expires: Wed, 21 Oct 2099 07:28:00 GMT",
    b"Expires: Thu, 31 Feb 2026 00:00:00 GMT",
    b"Expires: Sunday, 06-Nov-94 08:49:37 GMT",
    b"Expires: Thu, 21 Oct 9999 07:28:00 GMT",
    b"Expires: caf\xe9",
    b"Vary: X-A",
    b"Vary: x-a,X-A , ,",
    b"Vary:",
    b"Vary: Accept-Language",
    b"Vary: Cookie, Authorization",
    b"Vary: *",
    b"Vary: a b",
    b"Vary: \xe9",
    b"X-Odd: caf\xe9 \xff",
    b"X-Odd: a\tb",
    b"X-Odd: 1",
    b"x-ODD: 2",
    b"X-Empty:",
    b"X!#$%&'*+-.^_`|~: token",
    b"1: 2",
    b"Age: 17",
    b"Age: x",
    b"Content-Type: text/plain; charset=nonsense",
    b"Content-Type: \"",
    b"Content-Type: image/png",
    b"Content-Type: a/b; charset=utf-16",
    b"Content-Encoding: br",
    b"Content-Language: de",
    b"ETag: W/\"x\"",
    b"Last-Modified: never",
    b"X-Frame-Options: SAMEORIGIN",
    b"X-Frame-Options: DENY",
    b"Date: never",
    b"Server: s\xe9",
    b"Connection: X-Odd",
    b"Link: <a>; rel=b",
    b"Keep-Alive: timeout=5",
];
const STATUS: [&[u8]; 9] = [
    b"200 OK",
    b"200 OK",
    b"200 OK",
    b"200 Fine",
    b"200 ",
    b"200 caf\xe9",
    b"201 Created",
    b"204 No Content",
    b"404 Not Found",
];

/// The page of a number, the same each time.
fn page(number: usize) -> Vec<u8> {
    let mut random = Random::new(number as u64 + 1);
    let status = random.one(&STATUS);
    let mut page = [b"HTTP/1.1 ", status, b"\r\n"].concat();
    for _ in 0..random.below(8) {
        page.extend([random.one(&LINES), b"\r\n"].concat());
    }
    let body = random.one(&[&b""[..], b"page", b"\x00\xff\r\n", &[b'x'; 70_000]]);
    if status != b"204 No Content" {
        page.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        page.extend(body);
    } else {
        page.extend(b"\r\n");
    }
    page
}

#[tokio::test]
async fn django_serves_every_page_that_the_proxy_stores() {
    let origin = Origin::new(|seen, _| {
        let number = seen.line.split(' ').nth(1).unwrap().rsplit('/').next().unwrap();
        Script::Answer(page(number.parse().unwrap()))
    })
    .await;
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        let (mut stored, mut wrong) = (0, Vec::new());
        for cache in CACHES {
            let proxy = site.proxy_before(origin.address, cache, NEW, ALL).await;
            for number in 0..PAGES {
                let target = format!("/{}/any/{number}", cache.0);
                let filled = ask(&proxy, &target, b"X-A: 1\r\n").await;
                let ours = ask(&proxy, &target, b"X-A: 1\r\n").await;
                let theirs = site.get(&target, b"X-A: 1\r\n").await;
                let is_hit = ours.header("x-cache") == "HIT";
                stored += usize::from(is_hit);
                let is_own = theirs.body.starts_with(b"Django's own");
                let fault = match (is_hit, is_own) {
                    _ if theirs.status() >= 500 => Some(theirs.line),
                    (true, false) => site.difference(&ours, &theirs),
                    (false, true) => None,
                    (hit, own) => Some(format!("a hit: {hit}, Django's own: {own}")),
                };
                let lines = || page(number)[..300.min(page(number).len())].escape_ascii().to_string();
                wrong.extend(fault.map(|fault| format!("{target}: {fault}: {} {}", filled.cache(), lines())));
            }
        }
        verdict(&django.version, PAGES * CACHES.len(), &wrong);
        assert!(stored > PAGES * CACHES.len() / 4, "{stored}");
        crate::python::say(&format!("{}: Django served {stored} odd pages of the proxy", django.version));
    }
}
