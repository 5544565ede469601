//! The bytes of a connection before its requests, and of HTTP/2.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::ServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout};

use crate::http1::connection::Start;
use crate::limits::Connections;
use crate::stopping::{Order, Stopping};
use crate::tls::{Certificates, Handshakes};
use crate::{Answer, Clients, CurrentClients, Decided, Handler, Peer, RequestHead, http2, proxied};

/// No PROXY header is the beginning of another PROXY header.
pub fn proxied(bytes: &[u8]) {
    if proxied::parse(bytes).is_ok() {
        for length in 0..bytes.len() {
            assert!(proxied::parse(&bytes[..length]).is_err(), "{length} bytes of it are one, too");
        }
    }
}

/// A handshake for which there is no certificate ends, whatever names and protocols it asks for.
pub fn hello(bytes: &[u8]) {
    let none = Arc::new(Certificates::load(Vec::new()).expect("no certificate has no fault"));
    let config = Handshakes::config(none).expect("settings for TLS");
    let mut connection = ServerConnection::new(Arc::new(config)).expect("a connection");
    let mut unread = Cursor::new(bytes);
    while connection.read_tls(&mut unread).is_ok_and(|count| count > 0) {
        if connection.process_new_packets().is_err() {
            return;
        }
    }
}

/// The bytes that a connection of HTTP/2 begins with, and SETTINGS without any.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection of HTTP/2 whose client has left ends, whatever frames came. Each of its requests can be written in HTTP/1.1.
pub fn frames(bytes: &[u8]) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let handler = Arc::new(Inspector::default());
    runtime.block_on(async {
        let clients = CurrentClients::from(Clients::default());
        let admitted = Connections::new(clients.clone()).admit(Peer::LOCAL.ip()).expect("a place");
        let order = Order::default();
        let start = Start {
            peer: Peer::LOCAL,
            handler: handler.clone(),
            clients: clients.known(),
            stopping: Stopping::new(&order),
            admitted,
        };
        let (mut client, server) = duplex(1 << 20);
        let sent = async {
            // The server may have ended the connection.
            let _ = client.write_all(&[BEGINNING, bytes].concat()).await;
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut Vec::new()).await;
        };
        let served = async { tokio::join!(http2::serve(server, start), sent) };
        assert!(timeout(Duration::from_secs(10), served).await.is_ok(), "the connection goes on");
    });
    assert_eq!(handler.faults.load(Ordering::Relaxed), 0);
}

/// Looks at requests, and counts those that HTTP/1.1 cannot say.
#[derive(Default)]
struct Inspector {
    faults: AtomicUsize,
}

impl Handler for Inspector {
    type Body = String;
    type Page = String;
    type Lookup = Infallible;
    type Decision = ();
    type Record = ();

    fn answer(self: &Arc<Self>, _: &RequestHead<'_>, _: Peer, _: Instant) -> Decided<Self> {
        Decided::Decision(())
    }

    async fn look_up(
        self: &Arc<Self>,
        lookup: &Infallible,
        _: &RequestHead<'_>,
        _: Peer,
    ) -> Result<Answer<String, ()>, ()> {
        match *lookup {}
    }

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Peer,
        _: Option<()>,
    ) -> (Response<String>, ()) {
        if !is_for_http1(&request) {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        (Response::new("page".to_owned()), ())
    }
}

fn is_for_http1(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let has_framing = ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let target = request.uri().to_string();
    let is_plain = |text: &[u8]| text.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    let values_are_plain =
        headers.values().all(|value| !value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)));
    !has_framing && is_plain(target.as_bytes()) && values_are_plain
}
