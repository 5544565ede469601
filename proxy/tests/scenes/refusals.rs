//! Redis answers with errors. An error reply is an answer: what is stored stays a hit, and no connection is dropped, but
//! for errors that come from the wrong Redis.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proxy::Store as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use stack::{Brand, Cluster, Redis};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::near::KEY;
use crate::support::{Origin, Scene, Setup, redis_store};

const RULES: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\ncoalesce = \"fleet\"\n";

/// Which commands get an error instead of the reply of Redis.
#[derive(Clone, Default)]
struct Fault {
    command: &'static str,
    /// Words that the command contains.
    key: String,
    reply: String,
}

/// A Redis that answers some commands with errors.
struct Grumpy {
    address: SocketAddr,
    fault: Arc<Mutex<Option<Fault>>>,
    /// How many connections the proxy has given up.
    ended: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Grumpy {
    async fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, redis) = (listener.local_addr().unwrap(), redis.port());
        let (fault, ended, refused) =
            (Arc::<Mutex<_>>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (faults, gone, errors) = (fault.clone(), ended.clone(), refused.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (faults, gone, errors) = (faults.clone(), gone.clone(), errors.clone());
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", redis)).await.unwrap();
                    if converse(client, server, &faults, &errors).await.is_none() {
                        gone.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { address, fault, ended, refused }
    }

    fn url(&self) -> String {
        format!("redis://{}/1", self.address)
    }

    fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Passes commands on to Redis, and its replies back, until one side leaves. The feed of changes speaks another protocol
/// and counts for nothing.
async fn converse(
    client: TcpStream,
    server: TcpStream,
    fault: &Mutex<Option<Fault>>,
    refused: &AtomicUsize,
) -> Option<()> {
    let (client, mut answers) = client.into_split();
    let (server, mut commands) = server.into_split();
    let (mut client, mut server) = (BufReader::new(client), BufReader::new(server));
    loop {
        let command = message(&mut client).await?;
        let text = String::from_utf8_lossy(&command).into_owned();
        if text.contains("\r\nHELLO\r\n") {
            commands.write_all(&command).await.ok()?;
            let _ = tokio::join!(copy(&mut client, &mut commands), copy(&mut server, &mut answers));
            return Some(());
        }
        let fault = fault.lock().unwrap().clone();
        let strikes =
            |fault: &Fault| text.contains(&format!("\r\n{}\r\n", fault.command)) && text.contains(&fault.key);
        let answer = match fault.filter(strikes) {
            Some(fault) => {
                refused.fetch_add(1, Ordering::Relaxed);
                format!("-{}\r\n", fault.reply).into_bytes()
            }
            None => {
                commands.write_all(&command).await.ok()?;
                message(&mut server).await?
            }
        };
        answers.write_all(&answer).await.ok()?;
    }
}

/// Reads a command or a reply.
async fn message(input: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut missing = 1;
    while missing > 0 {
        let start = bytes.len();
        (input.read_until(b'\n', &mut bytes).await.ok()? > 0).then_some(())?;
        let length = || std::str::from_utf8(&bytes[start + 1..]).unwrap().trim().parse::<i64>().unwrap();
        missing -= 1;
        match bytes[start] {
            b'*' => missing += length().max(0),
            b'$' if length() >= 0 => {
                let end = bytes.len() + length() as usize + 2;
                bytes.resize(end, 0);
                let from = end - length_of(&bytes, start) - 2;
                input.read_exact(&mut bytes[from..]).await.ok()?;
            }
            _ => {}
        }
    }
    Some(bytes)
}

fn length_of(bytes: &[u8], start: usize) -> usize {
    let line = bytes[start + 1..].split(|byte| *byte == b'\r').next().unwrap();
    std::str::from_utf8(line).unwrap().parse().unwrap()
}

/// The errors of Redis, and some that it does not have.
fn error(random: &mut StdRng) -> String {
    const KNOWN: [&str; 24] = [
        "ERR unknown command",
        "WRONGTYPE Operation against a key",
        "OOM command not allowed",
        "LOADING Redis is loading",
        "MISCONF Errors writing to disk",
        "NOREPLICAS Not enough good replicas",
        "NOPERM this user has no permissions",
        "BUSY Redis is busy running a script",
        "NOSCRIPT No matching script",
        "UNKILLABLE Sorry",
        "EXECABORT discarded",
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "TRYAGAIN Multiple keys",
        "CROSSSLOT Keys",
        "CLUSTERDOWN The cluster is down",
        "NOTBUSY No scripts",
        "BUSYKEY Target key",
        "BUSYGROUP Group",
        "NOGROUP No such",
        "NOPROTO unsupported",
        "INPROG Failover already",
        "NOQUORUM No",
        "IOERR error",
    ];
    match random.random_range(0..4) {
        0 => format!("E{} {}", random.random_range(0..1_000_000), "x".repeat(random.random_range(0..300))),
        _ => (*KNOWN.choose(random).unwrap()).to_owned(),
    }
}

#[tokio::test]
async fn an_error_reply_costs_no_stored_page_but_its_own_and_no_connection() {
    const PAGES: usize = 8;
    let redis = Redis::start().unwrap();
    let grumpy = Grumpy::before(&redis).await;
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &grumpy.url(), &origin, RULES).await;
    for page in 0..PAGES {
        scene.get(&format!("/p/{page}/")).await;
    }
    let mut random = StdRng::seed_from_u64(14);
    for round in 0..200 {
        let command = *["GET", "SETEX", "SET", "EVAL", "DEL"].choose(&mut random).unwrap();
        let struck = random.random_range(0..PAGES);
        // A refused read concerns one page, a refused write all that are filled.
        let key = if command == "GET" { format!("/p/{struck}/.") } else { String::new() };
        let reply = error(&mut random);
        grumpy.set(Some(Fault { command, key, reply: reply.clone() }));
        for page in 0..PAGES {
            let answer = scene.get(&format!("/p/{page}/")).await;
            let is_struck = command == "GET" && page == struck;
            let expected = if is_struck { "MISS" } else { "HIT" };
            assert_eq!(answer.header("x-cache"), expected, "{command} {reply}, page {page}");
            assert_eq!(answer.status(), 200);
        }
        // A page that is filled meanwhile.
        let new = scene.get(&format!("/p/new{round}/")).await;
        assert_eq!((new.status(), new.header("x-cache")), (200, "MISS"));
        grumpy.set(None);
        assert_eq!(grumpy.ended(), 0, "{command} {reply}");
        // The page that was struck is stored once more by its miss.
        assert_eq!(scene.get(&format!("/p/{struck}/")).await.header("x-cache"), "HIT", "{command} {reply}");
    }
    assert!(grumpy.refused.load(Ordering::Relaxed) > 100);
    scene.stop().await;
}

#[tokio::test]
async fn an_error_that_means_another_redis_has_the_name_resolved_and_connected_anew() {
    let redis = Redis::start().unwrap();
    let grumpy = Grumpy::before(&redis).await;
    let origin = Origin::pages("").await;
    for reply in
        ["READONLY You can't write", "MASTERDOWN Link with MASTER is down", "NOAUTH Authentication required"]
    {
        let scene = Scene::over(
            Setup::Plain,
            &grumpy.url(),
            &origin,
            "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n",
        )
        .await;
        scene.get("/p/1/").await;
        let ended = grumpy.ended();
        grumpy.set(Some(Fault { command: "SETEX", key: String::new(), reply: reply.to_owned() }));
        let miss = scene.get(&format!("/p/{}/", &reply[..6])).await;
        assert_eq!(
            miss.header("cache-status"),
            "cachepage; fwd=uri-miss; stored",
            "not known before the first refusal"
        );
        let miss = scene.get(&format!("/p/{}/", &reply[..6])).await;
        assert_eq!(miss.header("cache-status"), "cachepage; fwd=uri-miss; detail=store-refuses", "{reply}");
        grumpy.set(None);
        assert_eq!(scene.get("/p/1/").await.header("x-cache"), "HIT", "{reply}");
        assert!(grumpy.ended() > ended, "{reply}");
        scene.get(&format!("/p/{}/", &reply[..6])).await;
        let miss = scene.get(&format!("/p/{}/2", &reply[..6])).await;
        assert_eq!(miss.header("cache-status"), "cachepage; fwd=uri-miss; stored", "{reply}");
        scene.stop().await;
        redis.cli(&["FLUSHALL"]).unwrap();
    }
}

#[tokio::test]
async fn a_lease_is_released_whatever_else_is_refused() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("").await;
    for (number, taken) in
        [&["-eval"][..], &["-del"], &["-eval", "-del"], &["-pexpire"]].into_iter().enumerate()
    {
        let user = ["ACL", "SETUSER", "u", "on", ">secret", "~*", "+@all"];
        assert_eq!(redis.cli(&[&user, taken].concat()).unwrap(), "OK");
        let url = redis.url().replace("redis://", "redis://u:secret@");
        let scene = Scene::over(Setup::Plain, &url, &origin, RULES).await;
        scene.get(&format!("/p/{number}/")).await;
        let lease = format!(
            ":1:views.decorators.cache.cache_page.GET./p/{number}/.d41d8cd98f00b204e9800998ecf8427e.lease"
        );
        let released = async {
            while redis.cli(&["EXISTS", &lease]).unwrap() != "0" {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let second = std::time::Duration::from_secs(1);
        tokio::time::timeout(second, released).await.expect("before it expires");
        scene.stop().await;
    }
}

#[tokio::test]
async fn the_user_of_the_docs_may_do_all_that_is_needed() {
    let redis = Redis::start().unwrap();
    let docs = include_str!("../../../docs/redis.md");
    let user = docs.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
    assert_eq!(redis.cli(&user.split(' ').collect::<Vec<_>>()).unwrap(), "OK");
    let url = redis.url().replace("redis://", "redis://cachepage:SECRET@");
    let origin = Origin::pages("Vary: Accept\r\n").await;
    let scene = Scene::over(Setup::Near, &url, &origin, RULES).await;
    for expected in ["MISS", "HIT"] {
        for accept in ["a/b", "c/d"] {
            let answer = scene.get_with("/p/1/", &format!("Accept: {accept}\r\n")).await;
            assert_eq!(answer.header("x-cache"), expected, "{}", redis.cli(&["ACL", "LOG"]).unwrap());
        }
    }
    scene.stop().await;
    let store = redis_store(&url);
    assert_eq!(store.refusals(&[b":1:views.decorators.cache.".to_vec()]).await, []);
    // The feed of changes and the releases of leases are in the log, too.
    assert_eq!(redis.cli(&["ACL", "LOG"]).unwrap(), "");

    redis.cli(&["ACL", "SETUSER", "cachepage", "-eval", "-mget"]).unwrap();
    let refused = store.refusals(&[b":1:views.decorators.cache.".to_vec()]).await;
    assert_eq!(refused.iter().map(|refused| refused.command).collect::<Vec<_>>(), ["EVAL", "MGET"]);
    assert!(refused[0].reply.starts_with("NOPERM"), "{refused:?}");
    // Of a user without access to the keys, each command is refused.
    assert_eq!(store.refusals(&[b"other.".to_vec()]).await.len(), 9);
}

#[tokio::test]
async fn a_full_node_of_a_cluster_takes_no_promise_from_the_others() {
    let cluster = Cluster::start(Brand::chosen(), 3, 0).unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &cluster.url(), &origin, RULES).await;
    let full = cluster.owner(&KEY.replace("/p/", "/p/0")).unwrap();
    cluster.nodes[full].cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let is_full = |path: &String| cluster.owner(&KEY.replace("/p/", path)) == Some(full);
    let (on_it, elsewhere): (Vec<_>, Vec<_>) =
        (0..24).map(|number| format!("/p/{number}")).partition(is_full);
    // The first refusal is not known before.
    scene.get("/p/0").await;
    for path in elsewhere {
        assert_eq!(scene.get(&path).await.cache(), "MISS fwd=uri-miss; stored", "{path}");
        assert_eq!(scene.get("/p/0").await.cache(), "MISS fwd=uri-miss; detail=store-refuses");
    }
    for path in on_it {
        assert_eq!(scene.get(&path).await.cache(), "MISS fwd=uri-miss; detail=store-refuses", "{path}");
    }
    cluster.nodes[full].cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    scene.get("/p/0").await;
    assert_eq!(scene.get("/p/0").await.header("x-cache"), "HIT");
}
