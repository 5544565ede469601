//! Compares keys in bulk. Random requests go through the proxy to a view that answers with the keys that Django makes
//! for them. The proxy stores that answer, so these keys must be in Redis.

use std::collections::HashSet;

use crate::random::Random;
use crate::site::{ALL, NEW, PLAIN, Site, ask};
use crate::venv::djangos;

/// The number of requests for each site and release.
const REQUESTS: usize = 1200;

const PATH: [&[u8]; 36] = [
    b"a",
    b"Z9",
    b"/",
    b"//",
    b"/./",
    b"/../",
    b"/..",
    b"/.",
    b".",
    b"..",
    b"%2e%2e",
    b"%2F",
    b"%2f..%2f",
    b"%41",
    b"%7E",
    b"~",
    b"-_!",
    b"%20",
    b"+",
    b"%c3%a9",
    b"%E9",
    b"%zz",
    b"%",
    b"%25",
    b"%3B",
    b";x=1",
    b"=",
    b"&",
    b"@:",
    b"$,'()*",
    b"%00",
    b"%F0%9F%98%80",
    b"%ed%a0%80",
    b"%3F%23",
    b"[b]",
    b"%0d%0a",
];
const QUERY: [&[u8]; 24] = [
    b"a=1", b"&", b"b=2", b"=", b"+", b"%20", b"%c3%a9", b"%C3", b"?", b"/../", b"/", b"[0]", b";", b"'",
    b"(x)", b"*", b"~", b"^", b"|", b"%", b"%zz", b"{}", b"`", b"!$,:@",
];
const HOST: [&str; 14] = [
    "shop.example",
    "SHOP.example",
    "shop.example:80",
    "shop.example:8000",
    "shop.example.",
    "localhost",
    "127.0.0.1:1",
    "[::1]",
    "[::1]:80",
    "a-b.c",
    "a.b:443",
    "x",
    "under_score",
    "xn--bcher-kva.example",
];
const VALUE: [&[u8]; 14] = [
    b"1",
    b"23",
    b"",
    b"-,",
    b"1:2,",
    b"*/*",
    b"text/html, */*;q=0.1",
    b"caf\xe9",
    b"\xc3\xa9",
    b"a  b",
    b"\"q\"",
    b"0:,",
    b"a,b",
    b"\xff",
];
const VARY: [&str; 13] = [
    "X-A",
    "x-b",
    "Accept",
    "Cookie",
    "Accept-Language",
    " ",
    ",",
    ", ",
    "Accept-Encoding",
    "Host",
    "Content-Type",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
];
const LANGUAGE: [&str; 28] = [
    "de",
    "DE",
    "de-AT",
    "en",
    "en-us",
    "pt",
    "pt-BR",
    "pt-pt",
    "zh-TW",
    "zh-hant-hk",
    "zh",
    "fr",
    "xx",
    "*",
    ";q=0.5",
    ";q=0",
    ";q=1.5",
    ";q=.5",
    "; q=0.3",
    ",",
    ", ",
    ",,",
    "_",
    "-",
    "sr-latn",
    "zh-cn",
    "abcdefghi",
    ";q=0.1234",
];
const COOKIE: [&str; 15] = [
    "django_language=de",
    "django_language=pt-br",
    "django_language=\"zh-hant\"",
    "django_language=xx",
    "django_language=",
    "a=b",
    "; ",
    ";",
    "novalue",
    "=x",
    "django_language = de",
    "django_language=DE-at",
    "django_language=\"d\\145\"",
    "x=\"a;b\"",
    "django_language=de_AT",
];

/// The languages of the site, in this order. Some have siblings or fallbacks.
const LANGUAGES: [&str; 6] = ["de", "en", "pt-br", "zh-hans", "zh-hant", "sr-latn"];

fn target(random: &mut Random, number: usize) -> String {
    let mut target = format!("/keys/{number}/").into_bytes();
    target.extend(random.some(&PATH, 6));
    if random.below(2) == 0 {
        target.push(b'?');
        target.extend(random.some(&QUERY, 6));
    }
    String::from_utf8(target).unwrap()
}

fn headers(random: &mut Random) -> Vec<u8> {
    let text = |parts: Vec<&str>| parts.concat().trim().to_owned();
    let mut lines = format!("Host: {}\r\n", random.one(&HOST)).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        lines.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    };
    for name in ["X-A", "X-B", "X-A", "Accept", "Accept-Encoding"] {
        if random.below(2) == 0 {
            line(name, random.one(&VALUE));
        }
    }
    for (name, parts) in
        [("Accept-Language", &LANGUAGE[..]), ("Cookie", &COOKIE), ("X-Vary", &VARY), ("Cookie", &COOKIE)]
    {
        if random.below(3) > 0 {
            let parts = (0..random.below(6)).map(|_| random.one(parts)).collect();
            line(name, text(parts).as_bytes());
        }
    }
    lines
}

/// The requests of which a key is not in Redis.
fn absent(site: &Site, asked: &[(String, Vec<String>)]) -> Vec<String> {
    let stored: HashSet<_> = site.keys(PLAIN).into_iter().collect();
    let is_absent = |(_, keys): &&(String, Vec<String>)| !keys.iter().all(|key| stored.contains(key));
    asked.iter().filter(is_absent).map(|(request, keys)| format!("{request}: {keys:?}")).collect()
}

#[tokio::test]
async fn keys_are_those_of_a_running_django() {
    let pairs: Vec<_> = LANGUAGES.iter().map(|code| format!("[\"{code}\", \"x\"]")).collect();
    let negotiated =
        format!("{{\"LOCALE\": true, \"TIME_ZONE\": \"Asia/Tokyo\", \"LANGUAGES\": [{}]}}", pairs.join(","));
    let told = format!("language = \"en-us\"\nlanguages = {LANGUAGES:?}\ntime_zone = \"Asia/Tokyo\"\n");
    for django in djangos() {
        for (settings, told) in [("{}", NEW), (&negotiated, &told)] {
            let site = Site::start(&django, settings, &[]).await;
            let proxy = site.proxy(PLAIN, told, ALL).await;
            let mut random = Random::new(7);
            let (mut stored, mut wrong, mut asked) = (0, Vec::new(), Vec::new());
            for number in 0..REQUESTS {
                let (target, headers) = (target(&mut random, number), headers(&mut random));
                let reply = ask(&proxy, &target, &headers).await;
                assert!(reply.status() < 500, "{target} {}: {}", headers.escape_ascii(), reply.line);
                if reply.header("cache-status").contains("stored") {
                    stored += 1;
                    let keys: Vec<_> = reply.text().lines().map(str::to_owned).collect();
                    asked.push((format!("{target} {}", headers.escape_ascii()), keys));
                }
                // Look long before the keys expire.
                if number % 100 == 99 {
                    wrong.extend(absent(&site, &std::mem::take(&mut asked)));
                }
            }
            assert!(
                wrong.is_empty(),
                "{} {settings}: {} of {stored}\n{}",
                django.version,
                wrong.len(),
                wrong.join("\n")
            );
            assert!(stored > REQUESTS / 2, "{stored}");
            crate::python::say(&format!(
                "{}: {stored} of {REQUESTS} random requests had Django's keys",
                django.version
            ));
        }
    }
}
