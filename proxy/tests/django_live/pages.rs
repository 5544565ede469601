//! Each page, filled by one side and served by the other.

use crate::site::{ALL, CACHES, Cache, NEW, PLAIN, REDIS, Site, ask, difference, request};
use crate::support::{Reply, Scene, exchange};
use crate::venv::djangos;

/// What neither stores.
const NEVER: [&str; 6] = ["not-private", "not-stored", "never", "missing", "streamed", "vary-star"];

/// What 4.2 does not know yet, and stores.
const STORED_BY_4: [&str; 3] = ["not-stored", "never", "vary-star"];

/// What the proxy alone does not store: cookies are for one client.
const COOKIES: [&str; 3] = ["cookie", "session-written", "token"];

/// Headers a page is asked with: the values of what pages vary on, and what is nobody's business.
const ASKED_WITH: &[&[u8]] = &[
    b"",
    b"X-A: 1\r\nX-B: 23\r\nAccept: */*\r\nCookie: a=1; b=2\r\nAccept-Language: de\r\n",
    b"X-A: caf\xe9\r\nX-B: \r\nContent-Type: x/y\r\nIf-None-Match: *\r\nCache-Control: no-cache\r\n",
];

/// The names of the pages in `pages.py`.
fn names() -> Vec<String> {
    let source = std::fs::read_to_string(crate::site::app().join("pages.py")).unwrap();
    let pages = source.split_once("PAGES = {").unwrap().1;
    let lines = pages.lines().filter_map(|line| line.strip_prefix("    \""));
    let names: Vec<_> = lines.filter_map(|line| Some(line.split_once("\":")?.0.to_owned())).collect();
    assert!(names.len() > 50, "{names:?}");
    names
}

/// A page as Django fills it and the proxy serves it, then the other way round.
async fn both_ways(
    site: &Site,
    proxy: &Scene,
    cache: Cache,
    target: &str,
    headers: &[u8],
) -> Result<(), String> {
    let name = target.split('/').nth(2).unwrap();
    let target = format!("{target}{}w", if target.contains('?') { '&' } else { '?' });
    let django_first = format!("{target}=django");
    let filled = site.get(&django_first, headers).await;
    if NEVER.contains(&name) {
        let is_theirs = site.version.starts_with("4.") && STORED_BY_4.contains(&name);
        let ours = ask(proxy, &django_first, headers).await;
        return check(is_theirs || ours.header("x-cache") != "HIT", "a page that is not to be stored", &ours)
            .and_then(|()| check(ours.body != filled.body || is_theirs, "the view's own answer", &ours));
    }
    let ours = ask(proxy, &django_first, headers).await;
    let theirs = site.get(&django_first, headers).await;
    let ours = with_language(ours, &theirs);
    check(ours.header("x-cache") == "HIT", "Django's page is a hit of the proxy", &ours)?;
    same("Django's page", &ours, &theirs)?;
    check(ours.body == filled.body, "the page that Django filled", &ours)?;
    let head = request("HEAD", &django_first, headers);
    let theirs = exchange(site.address, &head).await;
    let ours = with_language(exchange(proxy.address, &head).await, &theirs);
    same("HEAD", &ours, &theirs)?;
    if COOKIES.contains(&name) {
        return Ok(());
    }
    let proxy_first = format!("{target}=proxy");
    let filled = ask(proxy, &proxy_first, headers).await;
    check(filled.header("cache-status").contains("stored"), "the proxy fills", &filled)?;
    let ours = ask(proxy, &proxy_first, headers).await;
    let theirs = site.get(&proxy_first, headers).await;
    check(ours.header("x-cache") == "HIT", "the proxy's page is its hit", &ours)?;
    check(theirs.body == filled.body, "the proxy's page is Django's hit", &theirs)?;
    same("the proxy's page", &ours, &theirs)?;
    site_deletes(site, proxy, cache, &proxy_first, headers).await
}

/// A hit of Django's page with the two headers that `LocaleMiddleware`, which stands outside of `cache_page`, adds to it
/// each time, and the proxy does not (docs/django.md).
fn with_language(mut ours: Reply, theirs: &Reply) -> Reply {
    let language = theirs.header("content-language");
    if !theirs.header("vary").contains("Accept-Language") {
        return ours;
    }
    if ours.header("content-language").is_empty() {
        ours.headers.push(("content-language".to_owned(), language.to_owned()));
    }
    let vary = ours.header("vary").to_owned();
    if !vary.contains("Accept-Language") {
        let vary =
            if vary.is_empty() { "Accept-Language".to_owned() } else { format!("{vary}, Accept-Language") };
        ours.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("vary"));
        ours.headers.push(("vary".to_owned(), vary));
    }
    ours
}

fn check(is_so: bool, what: &str, reply: &Reply) -> Result<(), String> {
    is_so.then_some(()).ok_or_else(|| format!("not {what}: {} {:?}", reply.line, reply.headers))
}

fn same(what: &str, ours: &Reply, theirs: &Reply) -> Result<(), String> {
    difference(ours, theirs).map_or(Ok(()), |difference| Err(format!("{what}: {difference}")))
}

/// `cache.delete()` of the page is followed by a miss.
async fn site_deletes(
    site: &Site,
    proxy: &Scene,
    cache: Cache,
    target: &str,
    headers: &[u8],
) -> Result<(), String> {
    if !target.contains("/plain/") {
        return Ok(());
    }
    let prefix = cache.2.split('"').nth(1).filter(|_| cache.2.starts_with("key_prefix")).unwrap_or("");
    for kind in ["cache_page", "cache_header"] {
        let hit = ask(proxy, target, headers).await;
        check(hit.header("x-cache") == "HIT", "stored before it is deleted", &hit)?;
        for key in site.keys(cache).iter().filter(|key| key.contains(kind)) {
            // Django puts its own prefix and version before the name.
            let name = key.strip_prefix(prefix).unwrap().splitn(3, ':').nth(2).unwrap();
            let name: String = name
                .bytes()
                .map(|byte| {
                    if byte.is_ascii_alphanumeric() {
                        char::from(byte).to_string()
                    } else {
                        format!("%{byte:02X}")
                    }
                })
                .collect();
            site.control(cache, &format!("delete/?key={name}")).await;
        }
        let miss = ask(proxy, target, headers).await;
        check(miss.header("x-cache") == "MISS", "a miss after cache.delete()", &miss)?;
    }
    Ok(())
}

/// All that differs, of many.
fn verdict(what: &str, tried: usize, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}: {} of {tried}\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn each_page_is_filled_by_one_side_and_served_by_the_other() {
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        let (mut tried, mut wrong) = (0, Vec::new());
        for cache in CACHES {
            let proxy = site.proxy(cache, NEW, ALL).await;
            // The compressors only differ in what is around a value.
            let asked_with = if [PLAIN, REDIS].contains(&cache) { ASKED_WITH } else { &ASKED_WITH[1..2] };
            for name in names() {
                for headers in asked_with {
                    let target = format!("/{}/{name}/?of={}", cache.0, headers.len());
                    let result = both_ways(&site, &proxy, cache, &target, headers).await;
                    wrong.extend(result.err().map(|error| format!("{target}: {error}")));
                    tried += 1;
                }
            }
            site.control(cache, "clear/").await;
            let cleared = ask(&proxy, &format!("/{}/plain/?of=0&w=django", cache.0), b"").await;
            assert_eq!(cleared.header("x-cache"), "MISS", "after cache.clear()");
        }
        verdict(&django.version, tried, &wrong);
    }
}

/// Settings of sites, as Django and as the proxy are told.
const SITES: &[(&str, &str)] = &[
    (r#"{"USE_I18N": false, "USE_TZ": false}"#, ""),
    (
        r#"{"LOCALE": true, "TIME_ZONE": "Etc/GMT+5", "LANGUAGES": [["de", "d"], ["en", "e"], ["pt-br", "p"], ["zh-hant", "z"]]}"#,
        "language = \"en-us\"\nlanguages = [\"de\", \"en\", \"pt-br\", \"zh-hant\"]\ntime_zone = \"Etc/GMT+5\"\n",
    ),
    (
        r#"{"FORCE_SCRIPT_NAME": "/app/", "LANGUAGE_CODE": "pt-BR", "TIME_ZONE": "America/New_York"}"#,
        "language = \"pt-BR\"\nscript_name = \"/app/\"\ntime_zone = \"America/New_York\"\n",
    ),
];

#[tokio::test]
async fn languages_zones_and_script_names_are_in_both_keys() {
    let languages: &[&[u8]] = &[
        b"",
        b"Accept-Language: de-AT, en;q=0.5\r\n",
        b"Accept-Language: zh-TW\r\n",
        b"Accept-Language: fr\r\nX-A: 1\r\n",
        b"Accept-Language: de\r\nCookie: django_language=pt-br\r\n",
    ];
    for django in djangos() {
        let (mut tried, mut wrong) = (0, Vec::new());
        for (settings, told) in SITES {
            let site = Site::start(&django, settings, &[]).await;
            for cache in [PLAIN, REDIS] {
                let proxy = site.proxy(cache, told, ALL).await;
                for name in ["plain", "vary", "vary-language", "translated", "vary-cookie", "session"] {
                    for (number, headers) in languages.iter().enumerate() {
                        let target = format!("/{}/{name}/?of={number}", cache.0);
                        let result = both_ways(&site, &proxy, cache, &target, headers).await;
                        wrong.extend(result.err().map(|error| format!("{settings} {target}: {error}")));
                        tried += 1;
                    }
                }
            }
        }
        verdict(&django.version, tried, &wrong);
    }
}
