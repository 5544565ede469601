//! Cases in which Django gives a page to the wrong client. The proxy does not, for pages that it stored itself.

use crate::pages::verdict;
use crate::random::Random;
use crate::site::{ALL, NEW, PLAIN, Site, ask};
use crate::venv::djangos;

#[tokio::test]
async fn values_that_concatenate_alike_have_separate_pages() {
    let pairs: [&[u8]; 5] = [
        b"X-A: 1\r\nX-B: 23\r\n",
        b"X-A: 12\r\nX-B: 3\r\n",
        b"X-B: 123\r\n",
        b"X-A: -,\r\nX-B: 23\r\n",
        b"X-A: 123\r\n",
    ];
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        let proxy = site.proxy(PLAIN, NEW, ALL).await;
        let mut random = Random::new(11);
        for number in 0..60 {
            let asked = random.one(&pairs);
            let headers = [b"X-Vary: X-A, X-B\r\n", asked].concat();
            let reply = ask(&proxy, "/plain/asked/", &headers).await;
            let value = |name: &str| {
                let text = std::str::from_utf8(asked).unwrap();
                let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
                line.map_or_else(|| format!("{name}=None"), |value| format!("{name}='{value}'"))
            };
            let expected = format!("{} {} ", value("X-A"), value("X-B"));
            assert!(reply.text().starts_with(&expected), "{number}: {expected} {}", reply.text());
        }
        // 6.1 hashes netstrings, which cannot collide, so even pages that Django stored are told apart.
        if django.version.starts_with("6.1") {
            site.control(PLAIN, "clear/").await;
            for asked in pairs {
                site.get("/plain/asked/", &[b"X-Vary: X-A, X-B\r\n", asked].concat()).await;
            }
            let reply = ask(&proxy, "/plain/asked/", &[b"X-Vary: X-A, X-B\r\n", pairs[1]].concat()).await;
            assert!(reply.header("x-cache") == "HIT" && reply.text().starts_with("X-A='12' X-B='3' "));
        }
    }
}

/// Requests of three clients in all orders, to the proxy and to Django on the same cache.
#[tokio::test]
async fn a_client_with_credentials_never_gets_the_page_of_another() {
    let clients: [(&[u8], &str); 3] = [
        (b"", "for anybody "),
        (b"Authorization: Basic YTphb\r\n", "for Basic YTphb "),
        (b"Authorization: Bearer x\r\n", "for Bearer x "),
    ];
    for django in djangos() {
        let site = Site::start(&django, "{}", &[]).await;
        // Before 5.2.15 Django itself stores the page of a client with credentials for everybody.
        let beside = !django.version.starts_with("4.");
        let (mut tried, mut wrong) = (0, Vec::new());
        for authorization in ["pass", "vary"] {
            let rules = format!("{ALL}authorization = \"{authorization}\"\n");
            let proxy = site.proxy(PLAIN, NEW, &rules).await;
            for order in 0..216 {
                let target = format!("/plain/authorized/?{authorization}={order}");
                for step in [order % 6, order / 6 % 6, order / 36, order % 6] {
                    let (headers, expected) = clients[step % 3];
                    if step >= 3 && beside {
                        site.get(&target, headers).await;
                        continue;
                    }
                    let reply = ask(&proxy, &target, headers).await;
                    tried += 1;
                    if !reply.text().starts_with(expected) {
                        wrong.push(format!("{target} {expected:?}: {:?} {}", reply.text(), reply.cache()));
                    }
                }
            }
        }
        verdict(&django.version, tried, &wrong);
    }
}
