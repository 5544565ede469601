//! Listeners besides the plain one: Unix sockets, and load balancers that speak the PROXY protocol.

use std::time::Duration;

use proxy::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::support::{Client, Origin, RULES, Scene, exchange};

const GET: &str = "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n";

async fn listening(origin: &Origin, listen: &str) -> Scene {
    Scene::with(origin.address, MemoryStore::new(1 << 20), &format!("{RULES}\n[[listen]]\n{listen}")).await
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_pages_to_clients_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let origin = Origin::pages("").await;
    let scene = listening(&origin, &format!("address = \"unix:{}\"", path.display())).await;
    assert_eq!(scene.get("/p/").await.header("x-cache"), "MISS");
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("X-Cache: HIT\r\n") && answer.ends_with("page 1"), "{answer}");
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(GET.replace("/p/", "/pass").as_bytes()).await.unwrap();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(origin.seen()[1].header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_load_balancer_names_its_client() {
    let origin = Origin::pages("").await;
    let scene = listening(&origin, "address = \"127.0.0.1:0\"\nproxy_protocol = [\"127.0.0.0/8\"]").await;
    let version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\x30\x39\0\x50";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, client) in [
        (&b"PROXY TCP4 192.0.2.7 192.0.2.1 12345 80\r\n"[..], "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n", "2001:db8::7"),
        (version_2, "192.0.2.9"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (local, "127.0.0.1"),
    ] {
        let request = [header, b"GET /pass HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(exchange(scene.others[0], &request).await.status(), 200);
        assert_eq!(origin.seen().last().unwrap().header("x-forwarded-for"), Some(client));
    }
}

#[tokio::test]
async fn a_load_balancer_that_names_no_client_is_closed_and_others_may_not_name_one() {
    let origin = Origin::pages("").await;
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 12345 80\r\n";
    let must = listening(&origin, "address = \"127.0.0.1:0\"\nproxy_protocol = [\"127.0.0.1\"]").await;
    for bytes in [GET, "PROXY nonsense\r\n", "PROXY TCP4 192.0.2.7\r\n"] {
        let mut client = Client::connect(must.others[0]).await;
        client.write(bytes.as_bytes()).await;
        assert_eq!(client.rest().await, b"", "{bytes}");
    }
    let others = listening(&origin, "address = \"127.0.0.1:0\"\nproxy_protocol = [\"192.0.2.0/24\"]").await;
    assert_eq!(exchange(others.others[0], GET.as_bytes()).await.status(), 200);
    let reply = exchange(others.others[0], format!("{header}{GET}").as_bytes()).await;
    assert_eq!(reply.status(), 400);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn the_bound_for_an_address_is_that_of_the_client_which_a_load_balancer_names() {
    let origin = Origin::pages("").await;
    let settings = "limits.connections_per_address = 1\n[[cache_page]]\npath = \"/p/*\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
                    proxy_protocol = [\"127.0.0.1\"]\n";
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), settings).await;
    let kept = GET.replace("Connection: close\r\n", "");
    let mut clients = Vec::new();
    for (address, status) in [("192.0.2.7", 200), ("192.0.2.8", 200), ("192.0.2.7", 429)] {
        let mut client = Client::connect(scene.others[0]).await;
        client.write(format!("PROXY TCP4 {address} 192.0.2.1 12345 80\r\n{kept}").as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), status, "{address}");
        clients.push(client);
    }
    clients.clear();
    let again = format!("PROXY TCP4 192.0.2.7 192.0.2.1 12345 80\r\n{GET}");
    let served = async { while exchange(scene.others[0], again.as_bytes()).await.status() == 429 {} };
    timeout(Duration::from_secs(20), served).await.expect("a place is free again");
    assert_eq!(origin.count(), 1);
}
