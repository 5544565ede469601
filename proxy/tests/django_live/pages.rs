//! One side fills a page, and the other serves it.

use stack::Postgres;

use crate::site::{ALL, CACHES, Cache, NEW, PLAIN, REDIS, Site, ask, request};
use crate::support::{Reply, Scene, exchange};
use crate::venv::djangos;

/// The pages that neither side stores.
pub(crate) const NEVER: [&str; 6] =
    ["not-private", "not-stored", "never", "missing", "streamed", "vary-star"];

/// The pages of those that Django 4.2 still stores.
const STORED_BY_4: [&str; 3] = ["not-stored", "never", "vary-star"];

/// The headers of the requests: values of headers that pages vary on, and headers that must make no difference.
const REQUEST_HEADERS: &[&[u8]] = &[
    b"",
    b"X-A: 1\r\nX-B: 23\r\nAccept: */*\r\nCookie: a=1; b=2\r\nAccept-Language: de\r\n",
    b"X-A: caf\xe9\r\nX-B: \r\nContent-Type: x/y\r\nIf-None-Match: \"none\"\r\nCache-Control: no-cache\r\n",
];

/// The names of the pages in `pages.py`.
pub(crate) fn names() -> Vec<String> {
    let source = std::fs::read_to_string(crate::site::app().join("pages.py")).unwrap();
    let pages = source.split_once("PAGES = {").unwrap().1;
    let lines = pages.lines().filter_map(|line| line.strip_prefix("    \""));
    let names: Vec<_> = lines.filter_map(|line| Some(line.split_once("\":")?.0.to_owned())).collect();
    assert!(names.len() > 50, "{names:?}");
    names
}

/// Has Django fill a page and the proxy serve it, then the other way round.
pub(crate) async fn both_ways(
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
    check(ours.header("x-cache") == "HIT", "a hit of the proxy on Django's page", &ours)?;
    same(site, "Django's page", &ours, &theirs)?;
    check(ours.body == filled.body, "the page that Django stored", &ours)?;
    let head = request("HEAD", &django_first, headers);
    let theirs = exchange(site.address, &head).await;
    let ours = exchange(proxy.address, &head).await;
    same(site, "HEAD", &ours, &theirs)?;
    let proxy_first = format!("{target}=proxy");
    let filled = ask(proxy, &proxy_first, headers).await;
    // Only the proxy refuses pages with cookies, which are for one client.
    if !filled.header("set-cookie").is_empty() {
        return check(
            filled.header("cache-status").contains("set-cookie"),
            "given the reason for not storing it",
            &filled,
        );
    }
    check(filled.header("cache-status").contains("stored"), "stored by the proxy", &filled)?;
    let ours = ask(proxy, &proxy_first, headers).await;
    let theirs = site.get(&proxy_first, headers).await;
    check(ours.header("x-cache") == "HIT", "a hit of the proxy on its own page", &ours)?;
    check(theirs.body == filled.body, "a hit of Django on the proxy's page", &theirs)?;
    same(site, "the proxy's page", &ours, &theirs)?;
    site_deletes(site, proxy, cache, &proxy_first, headers).await
}

fn check(is_so: bool, what: &str, reply: &Reply) -> Result<(), String> {
    is_so.then_some(()).ok_or_else(|| format!("not {what}: {} {:?}", reply.line, reply.headers))
}

fn same(site: &Site, what: &str, ours: &Reply, theirs: &Reply) -> Result<(), String> {
    site.difference(ours, theirs).map_or(Ok(()), |difference| Err(format!("{what}: {difference}")))
}

/// Checks that `cache.delete()` of a page causes a miss.
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
            // Django itself puts the prefix and version before the name.
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

/// Fails with a list of all faults.
pub(crate) fn verdict(what: &str, tried: usize, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}: {} of {tried}\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn each_side_serves_the_pages_that_the_other_filled() {
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        let (mut tried, mut wrong) = (0, Vec::new());
        for cache in CACHES {
            let proxy = site.proxy(cache, NEW, ALL).await;
            // The compressors differ only in the compression of a value, so one set of headers is enough for them.
            let all_headers =
                if [PLAIN, REDIS].contains(&cache) { REQUEST_HEADERS } else { &REQUEST_HEADERS[1..2] };
            for name in names() {
                for headers in all_headers {
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

#[tokio::test]
async fn django_serves_a_page_that_the_proxy_has_stored_compressed_too() {
    let rules = format!("{ALL}compress = [\"br\", \"gzip\"]\n");
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        for cache in [PLAIN, REDIS, CACHES[2]] {
            let proxy = site.proxy(cache, NEW, &rules).await;
            let target = format!("/{}/large/", cache.0);
            let filled = ask(&proxy, &target, b"").await;
            let theirs = site.get(&target, b"").await;
            assert!(theirs.body == filled.body, "Django serves it from the cache, and not from the view");
            for (codings, coding) in [("br, gzip", "br"), ("gzip", "gzip")] {
                let hit = ask(&proxy, &target, format!("Accept-Encoding: {codings}\r\n").as_bytes()).await;
                assert_eq!((hit.header("x-cache"), hit.header("content-encoding")), ("HIT", coding));
                assert!(hit.body.len() < filled.body.len() / 100, "{}", hit.body.len());
            }
        }
    }
}

#[tokio::test]
async fn the_key_prefix_of_the_decorator_is_that_of_the_rule() {
    let rules = format!("{ALL}key_prefix = \"deco.é\"\n");
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        let cache = ("prefix", PLAIN.1, "");
        let proxy = site.proxy(cache, NEW, &rules).await;
        let (mut tried, mut wrong) = (0, Vec::new());
        for name in ["template", "vary", "unicode"] {
            let result =
                both_ways(&site, &proxy, cache, &format!("/prefix/{name}/"), REQUEST_HEADERS[1]).await;
            wrong.extend(result.err());
            tried += 1;
        }
        verdict(&django.version, tried, &wrong);
    }
}

/// The article's listing, made by DRF from PostgreSQL.
#[tokio::test]
async fn both_sides_share_the_page_of_a_listing() {
    let postgres = Postgres::shared();
    let url = postgres.database("homes").unwrap();
    let table = "CREATE TABLE home (id bigint PRIMARY KEY, title varchar(200), price numeric(12,2), created_at timestamptz)";
    let rows =
        "SELECT n, 'Höuse ' || n, n * 1000.5, timestamptz '2026-01-01 00:00:00.5+00' + n * interval '1 hour'";
    postgres.psql(&url, &format!("{table}; INSERT INTO home {rows} FROM generate_series(1, 45) n")).unwrap();
    let port = postgres.port().to_string();
    for django in djangos() {
        let site = Site::start(&django, "{}", &[("DATABASE_PORT", &port)]).await;
        let (mut tried, mut wrong) = (0, Vec::new());
        for cache in [PLAIN, REDIS] {
            let proxy = site.proxy(cache, NEW, ALL).await;
            for accept in ["application/json", "text/html", "*/*", "application/json; indent=2"] {
                for page in ["1", "2", "last", "%32"] {
                    let target = format!("/{}/homes/?page={page}", cache.0);
                    let accept = format!("Accept: {accept}\r\n");
                    let result = both_ways(&site, &proxy, cache, &target, accept.as_bytes()).await;
                    wrong.extend(result.err().map(|error| format!("{target} {accept}: {error}")));
                    tried += 1;
                }
            }
            let none = ask(&proxy, &format!("/{}/homes/", cache.0), b"").await;
            assert!(none.text().contains("Höuse 45"), "{}", none.text());
        }
        verdict(&django.version, tried, &wrong);
    }
}

#[tokio::test]
async fn a_read_only_proxy_writes_nothing() {
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        let proxy = site.proxy(PLAIN, &format!("write = false\n{NEW}"), ALL).await;
        for _ in 0..2 {
            let miss = ask(&proxy, "/plain/vary/", b"").await;
            assert_eq!(miss.header("x-cache"), "MISS", "{:?}", miss.headers);
        }
        assert_eq!(site.keys(PLAIN), [] as [&str; 0]);
        // A view that keeps its cache_page stores the page that the proxy reads.
        let miss = ask(&proxy, "/kept/vary/", b"").await;
        let keys = site.keys(PLAIN);
        let hit = ask(&proxy, "/kept/vary/", b"").await;
        assert_eq!((miss.header("x-cache"), hit.header("x-cache"), keys.len()), ("MISS", "HIT", 2));
        assert_eq!(miss.body, hit.body);
        assert_eq!(site.difference(&hit, &site.get("/kept/vary/", b"").await), None);
    }
}

/// The settings of sites, for Django and for the proxy.
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
async fn both_sides_have_the_same_keys_for_languages_time_zones_and_script_names() {
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
