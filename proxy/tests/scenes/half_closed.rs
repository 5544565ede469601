//! Clients that end their side after a request, as `nc -N` does, get their answer (RFC 9112 §9.6).

use tokio::time::timeout;

use crate::support::{Origin, PATIENCE, Scene, Setup, page};

scenes! {
    a_client_that_has_ended_its_side_gets_a_stored_page
    a_client_that_has_ended_its_side_gets_an_answer_that_takes_time
    a_client_that_resets_its_connection_has_its_pass_given_up
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";

/// A request in each form that the proxy reads in another way.
fn forms(method: &str, target: &str) -> [String; 2] {
    ["", "Connection: close\r\n"]
        .map(|line| format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n{line}\r\n"))
}

async fn a_client_that_has_ended_its_side_gets_a_stored_page(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    for request in forms("GET", "/p/").into_iter().chain(forms("HEAD", "/p/")) {
        for _ in 0..10 {
            let mut client = scene.connect().await;
            client.write(request.as_bytes()).await;
            client.end().await;
            let reply = client.reply(!request.starts_with("HEAD")).await;
            assert_eq!((reply.status(), reply.header("x-cache")), (200, "HIT"), "{request}");
            assert_eq!(client.rest().await, b"", "the connection is closed after the answer");
        }
    }
    assert_eq!(origin.count(), 1);
}

async fn a_client_that_has_ended_its_side_gets_an_answer_that_takes_time(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let post = |lines: &str| format!("POST /x HTTP/1.1\r\nHost: localhost:8000\r\n{lines}");
    let posts = [post("Content-Length: 4\r\n\r\nbody"), post(CHUNKED)];
    let all = [forms("GET", "/p/new"), forms("GET", "/x"), posts].concat();
    for (number, request) in all.into_iter().enumerate() {
        let request = request.replace("new", &number.to_string());
        let mut client = scene.connect().await;
        client.write(request.as_bytes()).await;
        client.end().await;
        let sender = timeout(PATIENCE, requests.recv()).await.expect("the origin is asked").unwrap();
        // The proxy has had every chance to see the end.
        assert_eq!(scene.send("GET / HTTP/9.9\r\n\r\n").await.status(), 400);
        sender.send(page("", "late")).await.unwrap();
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.text()), (200, "late"), "{request}");
        assert_eq!(client.rest().await, b"");
    }
}

async fn a_client_that_resets_its_connection_has_its_pass_given_up(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client.write(forms("GET", "/x")[0].as_bytes()).await;
    let sender = requests.recv().await.unwrap();
    client.reset();
    // Ends when the proxy has closed its connection to the origin.
    while sender.send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
