//! Origins that are reached by a Unix socket or by TLS.

use proxy::MemoryStore;
use rcgen::date_time_ymd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Origin, RULES, Scene, Script, page};
use crate::tunnel::{self, Authority};

/// A proxy with an `[[origin]]` of these lines.
async fn before(origin: &str) -> Scene {
    Scene::before(&[], MemoryStore::new(1 << 20), &format!("[[origin]]\n{origin}\n{RULES}")).await
}

#[tokio::test]
async fn an_origin_on_a_unix_socket_is_asked_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let origin = Origin::new(|seen, number| {
        Script::Answer(page("", &format!("{} {number}", seen.header("host").unwrap())))
    })
    .await;
    tunnel::unix(&path, origin.address);
    let url = format!("unix:{}", path.display());
    let scene = Scene::before(&["--origin", &url], MemoryStore::new(1 << 20), RULES).await;
    for (target, said) in [("/p/", "MISS"), ("/p/", "HIT"), ("/other", "BYPASS")] {
        let reply = scene.get(target).await;
        assert_eq!((reply.status(), reply.header("x-cache")), (200, said));
        assert!(reply.text().starts_with("localhost:8000 "), "{}", reply.text());
    }
    assert_eq!((origin.count(), origin.connections()), (2, 1));
}

#[tokio::test]
async fn a_unix_socket_without_a_server_is_502_until_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let origin = Origin::pages("").await;
    let url = format!("unix:{}", path.display());
    let scene = Scene::before(&["--origin", &url], MemoryStore::new(1 << 20), RULES).await;
    let reply = scene.get("/p/").await;
    assert_eq!((reply.status(), reply.cache().as_str()), (502, "BYPASS fwd=bypass; detail=origin-connect"));
    tunnel::unix(&path, origin.address);
    assert_eq!(scene.get("/p/").await.status(), 200);
}

#[tokio::test]
async fn an_origin_of_https_is_trusted_by_its_authority_and_its_name() {
    let authority = Authority::new();
    let origin = Origin::pages("").await;
    let expired =
        authority.issue_as("expired", &["127.0.0.1"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let (ip, name) = (authority.issue(&["127.0.0.1"]), authority.issue(&["app.example"]));
    let ca = format!("ca_file = {:?}\n", authority.ca());
    for (pair, lines, status) in [
        (&ip, ca.clone(), 200),
        (&name, format!("{ca}server_name = \"app.example\"\n"), 200),
        (&name, ca.clone(), 502),
        (&expired, ca.clone(), 502),
        // Signed by nobody that the system knows.
        (&ip, String::new(), 502),
    ] {
        let address = tunnel::tls(pair, None, origin.address).await;
        let scene = before(&format!("url = \"https://{address}\"\n{lines}")).await;
        for target in ["/p/", "/other"] {
            assert_eq!(scene.get(target).await.status(), status, "{lines}");
        }
    }
}

#[tokio::test]
async fn an_origin_that_asks_for_a_certificate_gets_that_of_the_settings() {
    let authority = Authority::new();
    let origin = Origin::pages("").await;
    let (server, client) = (authority.issue(&["127.0.0.1"]), authority.issue(&["cachepage"]));
    let address = tunnel::tls(&server, Some(&authority), origin.address).await;
    let lines = format!("url = \"https://{address}\"\nca_file = {:?}\n", authority.ca());
    assert_eq!(before(&lines).await.get("/p/").await.status(), 502);
    let shown = format!("client_certificate = {:?}\nclient_key = {:?}\n", client.cert, client.key);
    assert_eq!(before(&format!("{lines}{shown}")).await.get("/p/").await.status(), 200);
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_but_without_the_end_of_tls_is_broken() {
    let authority = Authority::new();
    let acceptor = tunnel::acceptor(&authority.issue(&["127.0.0.1"]), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for is_cut in [true, false] {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npage").await.unwrap();
            stream.flush().await.unwrap();
            if !is_cut {
                stream.shutdown().await.unwrap();
            }
        }
    });
    let scene = before(&format!("url = \"https://{address}\"\nca_file = {:?}\n", authority.ca())).await;
    assert!(!scene.get("/p/").await.whole);
    let reply = scene.get("/p/").await;
    assert_eq!((reply.whole, reply.text()), (true, "page"));
}
