//! A rolling restart: a new process takes over the address of each proxy, and no client notices.

use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use tokio::task::block_in_place;

use crate::backend::Backend;
use crate::load::{CLIENTS, Client, Habit, Load};
use crate::origin::Origin;
use crate::program::{Proxy, refused};
use crate::{scenario_length, turn};

const RULE: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 1\n";

fn settings(listen: &str, takeover: &Path, rest: &str) -> String {
    format!("listen = \"{listen}\"\ntakeover = \"{}\"\n{rest}", takeover.display())
}

/// Half of the clients keep their connections. A proxy that ends announces it in its next answer, and closes a
/// connection after a second without a request. A request that the client has just sent then is sent again, as with
/// every server that closes idle connections, and counted as retried. The other half of the clients open a connection
/// for each request and accept no errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_proxies_are_replaced_under_load_without_a_failure() {
    let _turn = turn().await;
    let redis = block_in_place(Backend::start).unwrap();
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("origin = \"http://{}\"\nstore = \"{}\"\n{RULE}", origin.address, redis.url());
    let file = |index: usize| folder.path().join(format!("{index}.sock"));
    let mut proxies: Vec<_> = (0..3)
        .map(|index| block_in_place(|| Proxy::start(&settings("127.0.0.1:0", &file(index), &rest))))
        .collect();
    let addresses: Vec<_> = proxies.iter().map(|proxy| proxy.address).collect();
    let kept = Load::start(&addresses, CLIENTS / 2, Habit::KeepAlive);
    let anew = Load::start(&addresses, CLIENTS / 2, Habit::Anew);
    kept.hits(CLIENTS).await;
    anew.hits(CLIENTS).await;
    let calm = Instant::now();
    tokio::time::sleep(scenario_length() / 4).await;
    let rolling = Instant::now();
    let mut replaced = 0;
    while replaced < 3 || rolling.elapsed() < scenario_length() * 3 / 4 {
        for (index, proxy) in proxies.iter_mut().enumerate() {
            let listen = proxy.listens.to_string();
            let next = block_in_place(|| Proxy::start(&settings(&listen, &file(index), &rest)));
            let mut old = std::mem::replace(proxy, next);
            assert_eq!(block_in_place(|| old.wait()), Some(0));
            replaced += 1;
            anew.answers(CLIENTS).await;
        }
    }
    let end = Instant::now();
    let (kept, anew) = (kept.stop().await, anew.stop().await);
    let retried = (kept.retried, anew.retried);
    let seen = kept.and(anew);
    let failed = seen.failures();
    println!("rolling restart: {replaced} replaced, {failed:?} failed, {} sent again", retried.0);
    println!("  calm    {}", seen.between(calm, rolling));
    println!("  rolling {}", seen.between(rolling, end));
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(retried.1, 0);
}

#[tokio::test]
async fn a_port_is_taken_over_only_from_a_proxy_that_offers_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.sock");
    let rest = "store = \"memory\"\n";
    // Another program has the port. First there is no socket file, then one that a crashed program has left behind.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let said = refused(&settings(&address, &file, rest));
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    drop(std::os::unix::net::UnixListener::bind(&file).unwrap());
    let said = refused(&settings(&address, &file, rest));
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");

    // A proxy has the port, but offers it at another socket file.
    let proxy = Proxy::start(&settings("127.0.0.1:0", &file, rest));
    let listen = proxy.listens.to_string();
    let elsewhere = folder.path().join("elsewhere.sock");
    let said = refused(&settings(&listen, &elsewhere, rest));
    assert!(said.contains(&format!("cannot listen on {listen}")), "{said}");
    let said = refused(&format!("listen = \"{listen}\"\n{rest}"));
    assert!(said.contains(&format!("cannot listen on {listen}")), "{said}");

    // A proxy offers another port at the socket file, and keeps it.
    let said = refused(&settings(&address, &file, rest));
    assert!(
        said.contains("nothing to take over") && said.contains(&format!("listens on http://{listen}")),
        "{said}"
    );
    assert_eq!(Client::new(proxy.address, Habit::Anew).fetch("/x").await.unwrap().status, 502);
}
