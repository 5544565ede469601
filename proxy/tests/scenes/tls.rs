//! Clients that speak TLS with the proxy.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use proxy::{Args, Config, MemoryStore};
use rcgen::date_time_ymd;
use server::{CertificateFiles, Certificates};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Origin, RULES, Scene, Script, exchange, page};
use crate::tunnel::{Authority, Pair};

/// A proxy that speaks TLS with these certificates.
async fn speaking_tls(origin: &Origin, pairs: &[&Pair], settings: &str) -> Scene {
    let listen = listen(pairs, "");
    Scene::with(origin.address, MemoryStore::new(8 << 20), &format!("{settings}\n{RULES}\n{listen}")).await
}

/// A `[[listen]]` with these certificates and these further lines.
pub(crate) fn listen(pairs: &[&Pair], lines: &str) -> String {
    let pairs: Vec<_> =
        pairs.iter().map(|pair| format!("{{ cert = {:?}, key = {:?} }}", pair.cert, pair.key)).collect();
    format!("[[listen]]\naddress = \"127.0.0.1:0\"\ncertificates = [{}]\n{lines}", pairs.join(", "))
}

const GET: &[u8] = b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

#[tokio::test]
async fn pages_of_http_and_of_https_are_two_pages() {
    let authority = Arc::new(Authority::new());
    let pair = authority.issue(&["127.0.0.1"]);
    let origin = Origin::new(|seen, number| {
        Script::Answer(page("", &format!("{} {number}", seen.header("x-forwarded-proto").unwrap())))
    })
    .await;
    let scene = speaking_tls(&origin, &[&pair], "").await;
    let tls = authority.leading_to(scene.others[0]).await;
    for (address, x_cache, text) in [
        (scene.address, "MISS", "http 1"),
        (tls, "MISS", "https 2"),
        (scene.address, "HIT", "http 1"),
        (tls, "HIT", "https 2"),
    ] {
        let reply = exchange(address, GET).await;
        assert_eq!((reply.header("x-cache"), reply.text()), (x_cache, text));
    }
}

#[tokio::test]
async fn pages_of_any_size_come_whole_to_readers_that_are_slow() {
    let authority = Arc::new(Authority::new());
    let pair = authority.issue(&["127.0.0.1"]);
    let text: Arc<str> = "0123456789".repeat(50_000).into();
    let body = text.clone();
    let origin = Origin::new(move |seen, _| {
        let length = seen.line.split(['?', ' ']).nth(2).unwrap().parse().unwrap();
        Script::Answer(page("", &body[..length]))
    })
    .await;
    let scene = speaking_tls(&origin, &[&pair], "").await;
    for length in [1, 14_000, 40_000, 500_000] {
        for x_cache in ["MISS", "HIT", "HIT"] {
            let mut client = authority.connect("127.0.0.1", &[], scene.others[0]).await.unwrap();
            let request = format!("GET /p/?{length} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while client.read_buf(&mut answer).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.contains(&format!("X-Cache: {x_cache}\r\n")), "{length}");
            assert!(answer.ends_with(&format!("\r\n\r\n{}", &text[..length])), "{length} {x_cache}");
        }
    }
}

#[tokio::test]
async fn a_name_has_its_certificate_and_an_unknown_one_none() {
    let authority = Authority::new();
    let first = authority.issue(&["127.0.0.1", "first.example"]);
    let second = authority.issue(&["second.example", "*.wild.example"]);
    let origin = Origin::pages("").await;
    let scene = speaking_tls(&origin, &[&first, &second], "").await;
    for (name, is_served) in [
        ("127.0.0.1", true),
        ("first.example", true),
        ("second.example", true),
        ("a.wild.example", true),
        ("unknown.example", false),
        ("a.b.wild.example", false),
    ] {
        let connected = authority.connect(name, &[], scene.others[0]).await;
        assert_eq!(connected.is_ok(), is_served, "{name}");
    }
}

#[tokio::test]
async fn certificates_that_have_changed_take_the_place_of_the_old_and_bad_ones_do_not() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    let files = CertificateFiles { cert: pair.cert.clone(), key: pair.key.clone() };
    let certificates = Arc::new(Certificates::load(vec![files]).unwrap());
    let origin = Origin::pages("").await;
    let url = format!("http://{}", origin.address);
    let args = Args::try_parse_from(["proxy", "--listen", "127.0.0.1:0", "--origin", &url]).unwrap();
    let mut config = Config::parse(&args, None).unwrap();
    config.listeners[0].certificates = Some(certificates.clone());
    let scene = Scene::of(config, MemoryStore::new(1 << 20)).await;
    let mut open = authority.connect("127.0.0.1", &[], scene.address).await.unwrap();
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let before = shown(&open);
    std::fs::write(&pair.key, "no key").unwrap();
    certificates.refresh();
    assert_eq!(shown(&authority.connect("127.0.0.1", &[], scene.address).await.unwrap()), before);
    authority.issue(&["127.0.0.1"]);
    certificates.refresh();
    assert_ne!(shown(&authority.connect("127.0.0.1", &[], scene.address).await.unwrap()), before);
    open.write_all(GET).await.unwrap();
    let mut answer = [0; 12];
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// `CACHEPAGE_REPLACEMENTS=1000` is the long form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_under_load_fails_no_request() {
    const CLIENTS: usize = 8;
    let count = std::env::var("CACHEPAGE_REPLACEMENTS").map_or(10, |count| count.parse().unwrap());
    let authority = Arc::new(Authority::new());
    let pair = authority.issue(&["127.0.0.1"]);
    let files = CertificateFiles { cert: pair.cert.clone(), key: pair.key.clone() };
    let certificates = Arc::new(Certificates::load(vec![files]).unwrap());
    let origin = Origin::pages("").await;
    let url = format!("http://{}", origin.address);
    let args = Args::try_parse_from(["proxy", "--listen", "127.0.0.1:0", "--origin", &url]).unwrap();
    let mut config = Config::parse(&args, Some(("scene.toml", RULES))).unwrap();
    config.listeners[0].certificates = Some(certificates.clone());
    let scene = Scene::of(config, MemoryStore::new(1 << 20)).await;
    let (served, mut answers) = tokio::sync::mpsc::channel(1);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(ask_on_and_on(authority.clone(), scene.address, client % 2 == 0, served.clone()));
    }
    drop(served);
    let mut shown = std::collections::HashSet::new();
    for replaced in 0..count {
        // Now and then the new pair has a fault, and the last one stays.
        match replaced % 3 {
            2 => std::fs::write(&pair.key, "no key").unwrap(),
            _ => drop(authority.issue(&["127.0.0.1"])),
        }
        certificates.refresh();
        for _ in 0..2 * CLIENTS {
            shown.insert(answers.recv().await.expect("no client has failed"));
        }
    }
    drop(answers);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client that fails panics");
    }
    assert!(shown.len() > count / 2, "{} of {count}", shown.len());
}

/// A client that keeps its connection, or makes one for each request, until nobody listens. It says which certificate was
/// shown to it.
async fn ask_on_and_on(
    authority: Arc<Authority>,
    proxy: std::net::SocketAddr,
    keeps: bool,
    served: tokio::sync::mpsc::Sender<Vec<u8>>,
) {
    let mut kept = None;
    loop {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => authority.connect("127.0.0.1", &[], proxy).await.unwrap(),
        };
        stream.write_all(GET).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(10).any(|end| end.starts_with(b"\r\n\r\npage ")) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", answer.escape_ascii());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        kept = keeps.then_some(stream);
        if served.send(shown).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn half_a_handshake_takes_no_place_for_long() {
    let count = std::env::var("CACHEPAGE_HANDSHAKES").map_or(200, |count| count.parse().unwrap());
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    let origin = Origin::pages("").await;
    let scene = speaking_tls(&origin, &[&pair], "[deadlines]\nclient_head = \"1s\"").await;
    let mut halves = Vec::new();
    for _ in 0..count {
        let mut half = TcpStream::connect(scene.others[0]).await.unwrap();
        // The beginning of a ClientHello.
        half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        halves.push(half);
    }
    authority.connect("127.0.0.1", &[], scene.others[0]).await.unwrap();
    for mut half in halves {
        let read = async { matches!(half.read(&mut [0; 100]).await, Ok(0) | Err(_)) };
        assert!(tokio::time::timeout(crate::support::PATIENCE, read).await.expect("closed in time"));
    }
    scene.stop().await;
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_the_order_to_stop_waits_for_no_handshake() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    let origin = Origin::pages("").await;
    let scene = speaking_tls(&origin, &[&pair], "").await;
    let mut plain = TcpStream::connect(scene.others[0]).await.unwrap();
    plain.write_all(GET).await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    let _silent = TcpStream::connect(scene.others[0]).await.unwrap();
    let began = tokio::time::Instant::now();
    scene.stop().await;
    assert!(began.elapsed() < Duration::from_secs(9), "a handshake has ten seconds");
}

#[tokio::test]
async fn a_client_that_connects_just_before_the_order_to_stop_is_answered() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    let origin = Origin::pages("").await;
    let scene = speaking_tls(&origin, &[&pair], "").await;
    let proxy = scene.others[0];
    let early = TcpStream::connect(proxy).await.unwrap();
    // Connections are accepted in order, so after this handshake the proxy has both.
    drop(authority.connect("127.0.0.1", &[], proxy).await.unwrap());
    let late = async {
        // The proxy closes its port with the order.
        while TcpStream::connect(proxy).await.is_ok() {}
        let mut early = authority.shake_hands("127.0.0.1", &[], early).await.unwrap();
        early.write_all(GET).await.unwrap();
        let mut said = Vec::new();
        let _ = early.read_to_end(&mut said).await;
        assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&said));
    };
    tokio::join!(scene.stop(), late);
}

#[test]
fn certificates_have_faults_with_their_places() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
    let mixed = Pair { cert: pair.cert.clone(), key: other.key };
    let missing = Pair { cert: "/no/such/file".into(), key: pair.key.clone() };
    let expired =
        authority.issue_as("old", &["c.example"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    for (pairs, faults) in [
        (vec![&pair], vec![]),
        // A clock that is wrong must not keep a site down.
        (vec![&expired], vec![]),
        (vec![&mixed, &pair, &missing], vec!["KeyMismatch", "/no/such/file cannot be read"]),
    ] {
        let args = Args::try_parse_from(["proxy"]).unwrap();
        let parsed = Config::parse(&args, Some(("f.toml", &listen(&pairs, ""))));
        let said = parsed.err().map(|faults| faults.to_string()).unwrap_or_default();
        assert_eq!(said.lines().count(), faults.len(), "{said}");
        for (line, fault) in said.lines().zip(faults) {
            assert!(line.starts_with("f.toml:3: certificates: ") && line.contains(fault), "{said}");
        }
    }
}

#[test]
fn a_certificate_that_clients_refuse_is_a_warning() {
    let authority = Authority::new();
    let good = authority.issue(&["a.example"]);
    let expired =
        authority.issue_as("old", &["b.example"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early =
        authority.issue_as("new", &["c.example"], |params| params.not_before = date_time_ymd(2090, 1, 1));
    let nameless = authority.issue_as("nameless", &["d.example"], |params| params.subject_alt_names.clear());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cachepage.toml");
    std::fs::write(&file, listen(&[&good, &expired, &early, &nameless], "")).unwrap();
    let args = Args::try_parse_from(["proxy", "--config", file.to_str().unwrap()]).unwrap();
    let warnings = Config::load(&args).unwrap().warnings;
    for (warning, (pair, flaw)) in warnings.iter().zip([
        (&expired, "has expired on "),
        (&early, "is valid from "),
        (&nameless, "names no host"),
    ]) {
        let start = format!("listen: certificates: {} {flaw}", pair.cert.display());
        assert!(warning.starts_with(&start) && warning.ends_with("clients refuse it"), "{warning}");
    }
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

/// What a program says to the listener, or `None` where it is not installed.
fn run(program: &str, args: &[&str], input: &'static [u8]) -> Option<String> {
    use std::io::Write as _;
    let started = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        let _ = writeln!(std::io::stderr(), "NOT TESTED with {program}: it is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_and_curl_are_served() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1", "localhost"]);
    let origin = Origin::pages("").await;
    let scene = speaking_tls(&origin, &[&pair], "").await;
    let (address, ca) = (scene.others[0].to_string(), authority.ca().display().to_string());
    let url = format!("https://localhost:{}/p/", scene.others[0].port());
    let asked = tokio::task::spawn_blocking(move || {
        let close = b"GET /p/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for (version, said) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let args = ["s_client", "-quiet", "-connect", &address, "-CAfile", &ca, version, "-ign_eof"];
            let Some(text) = run("openssl", &args, close) else { break };
            assert!(text.contains("HTTP/1.1 200 OK"), "{said}: {text}");
        }
        for (version, protocol) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let args = ["-sS", "--cacert", &ca, version, "-w", " %{http_version}", &url];
            let Some(text) = run("curl", &args, b"") else { break };
            assert!(text.starts_with("page ") && text.ends_with(&format!(" {protocol}")), "{text}");
        }
    });
    asked.await.unwrap();
}
