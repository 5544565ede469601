//! The commands that look at a site: `init` without Django, and `warm`.

use std::collections::HashMap;

use serde_json::Value;

use crate::program::{Running, run};
use crate::support::{Origin, Script, page};

/// An origin with these pages: path, header lines, body. Another path is a 404.
async fn site(pages: &[(&'static str, &'static str, &str)]) -> Origin {
    let pages: HashMap<_, _> =
        pages.iter().map(|(path, headers, body)| (*path, page(headers, body))).collect();
    Origin::new(move |seen, _| {
        let path = seen.line.split(' ').nth(1).unwrap_or_default();
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        Script::Answer(pages.get(path).cloned().unwrap_or(missing))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn init_proposes_rules_for_the_pages_that_an_origin_shows() {
    let front =
        "<a href=\"/blog/1/\">1</a> <a href='/blog/2/'>2</a> <a href=\"/cart/\">cart</a> <a href=\"/gone/\">";
    let origin = site(&[
        ("/", "", front),
        ("/blog/1/", "", "one"),
        ("/blog/2/", "", "two"),
        ("/cart/", "Set-Cookie: a=b\r\n", "cart"),
    ])
    .await;
    let url = format!("http://{}", origin.address);
    let output = run(&["init", "--origin", &url, "--output", "-"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let checked = run(&["--config", file.path().to_str().unwrap(), "check", "--json"]);
    let summary: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(summary["origin"], url);
    let paths: Vec<_> = summary["rules"].as_array().unwrap().iter().map(|rule| &rule["path"]).collect();
    assert_eq!(paths, ["/blog/*", "/"]);
    assert!(text.contains("# /cart/ is not stored: 200, set-cookie\n"), "{text}");
    assert!(text.contains("# /gone/ is not stored: 404, "), "{text}");
    assert!(said.contains("- has 2 rules\nnot seen: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_has_the_proxy_fetch_pages_and_the_pages_of_sitemaps() {
    let index = "<sitemapindex><sitemap><loc>http://h/pages.xml</loc></sitemap></sitemapindex>";
    let pages =
        "<urlset><url><loc>http://h/a/</loc></url><url><loc>http://h/b/?x=1&amp;y=2</loc></url></urlset>";
    let origin = site(&[
        ("/sitemap.xml", "", index),
        ("/pages.xml", "", pages),
        ("/a/", "", "a"),
        ("/b/?x=1&y=2", "", "b"),
        ("/own/", "Set-Cookie: a=b\r\n", "own"),
    ])
    .await;
    let url = format!("http://{}", origin.address);
    let proxy = Running::start(&["--origin", &url, "--store", "memory", "--cache", "/*", "--site", "h"]);
    let warm = |urls: &[&str]| {
        let output = run(&[&["warm", "--listen", &proxy.address, "--json"], urls].concat());
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), said)
    };
    let (code, said) = warm(&["http://h/sitemap.xml", "http://h/own/"]);
    assert_eq!((code, &said["stored"], &said["hits"]), (Some(0), &2.into(), &0.into()), "{said}");
    assert_eq!(said["passed"][0]["url"], "http://h/own/");
    let (code, said) = warm(&["http://h/a/", "http://h/gone/"]);
    assert_eq!((code, &said["stored"], &said["hits"]), (Some(1), &0.into(), &1.into()), "{said}");
    let failed = &said["failed"][0];
    assert_eq!((&failed["url"], &failed["why"]), (&"http://h/gone/".into(), &"404 Not Found".into()));
    assert_eq!(warm(&["nonsense"]).0, Some(2));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pages).unwrap();
    let (code, said) = warm(&[file.path().to_str().unwrap()]);
    assert_eq!((code, &said["hits"]), (Some(0), &2.into()), "{said}");
}
