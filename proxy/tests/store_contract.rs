//! One suite over every store: the contract of `Store`.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proxy::{
    Feed as _, Key, Listener, Locks as _, MemoryStore, NodeNumber, RedisStore, Store, Values as _, Write,
};
use stack::{Brand, Cluster, Redis, SlotMove, Watched};
use tokio::sync::Notify;
use tokio::time::timeout;

const MINUTE: Duration = Duration::from_secs(60);

/// Far above what a busy test machine needs.
const PATIENCE: Duration = Duration::from_secs(10);

fn key(name: &str) -> Key {
    Key::new(name)
}

fn set(name: &str, value: &[u8]) -> Write {
    Write::Set(key(name), Bytes::copy_from_slice(value))
}

/// A store, and a way to let the time of its values pass.
trait Subject {
    type Store: Store;

    fn store(&self) -> &Self::Store;

    async fn let_pass(&self, time: Duration);
}

struct Memory(MemoryStore);

impl Subject for Memory {
    type Store = MemoryStore;

    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn let_pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

/// Runs a command of `redis-cli` on the store's database.
type Cli = Box<dyn Fn(&[&str]) -> String + Send + Sync>;

struct InRedis(Cli, RedisStore);

impl Subject for InRedis {
    type Store = RedisStore;

    fn store(&self) -> &RedisStore {
        &self.1
    }

    /// Redis has a clock of its own: what would end by then is made to end now.
    async fn let_pass(&self, time: Duration) {
        for key in ["a", "b"] {
            let left: i64 = (self.0)(&["PTTL", key]).parse().unwrap();
            let left = left - i64::try_from(time.as_millis()).unwrap();
            (self.0)(&["PEXPIRE", key, &left.to_string()]);
        }
    }
}

async fn keeps_the_contract(subject: impl Subject) {
    let store = subject.store();
    let (a, b, odd) = (key("a"), key("b"), key("odd \0\r\n\u{e9} *"));

    assert_eq!(store.get([a.as_bytes()]).await.unwrap(), [None], "what was never put");

    store.put(vec![set("a", b"1"), set("b", b"")], MINUTE).await.unwrap();
    assert_eq!(store.get([a.as_bytes()]).await.unwrap(), [Some("1".into())]);
    assert_eq!(
        store.get([b.as_bytes(), key("none").as_bytes(), a.as_bytes()]).await.unwrap(),
        [Some("".into()), None, Some("1".into())],
        "in order of the keys"
    );

    store.put(vec![set("a", b"2"), set("a", b"3")], MINUTE).await.unwrap();
    assert_eq!(store.get([a.as_bytes()]).await.unwrap(), [Some("3".into())], "a later write wins");

    let binary: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    store.put(vec![Write::Set(odd.clone(), binary.clone().into())], MINUTE).await.unwrap();
    assert_eq!(
        store.get([odd.as_bytes()]).await.unwrap(),
        [Some(binary.into())],
        "any bytes, a megabyte of them"
    );

    let replace = async |start: &'static str, value: &'static str| {
        store.replace(&key("a"), &start.into(), value.into(), MINUTE).await.unwrap()
    };
    store.put(vec![set("a", b"old 1")], MINUTE).await.unwrap();
    assert!(!replace("old 2", "new").await && !replace("old 12", "new").await, "another value stays");
    assert_eq!(store.get([a.as_bytes()]).await.unwrap(), [Some("old 1".into())]);
    assert!(replace("old 1", "3").await, "a value is replaced by its beginning");
    assert_eq!(store.get([a.as_bytes()]).await.unwrap(), [Some("3".into())]);
    assert!(!store.replace(&key("none"), &Bytes::new(), "x".into(), MINUTE).await.unwrap());
    assert_eq!(store.get([key("none").as_bytes()]).await.unwrap(), [None], "what is not there stays away");

    let (lease, ours, theirs) = (key("lease"), Bytes::from("ours"), Bytes::from("theirs"));
    assert!(store.claim(&lease, &ours, MINUTE).await.unwrap(), "the first has it");
    assert!(!store.claim(&lease, &theirs, MINUTE).await.unwrap(), "the second does not");
    assert!(!store.release(&lease, &theirs).await.unwrap(), "nor can it let it go");
    assert!(store.renew(&lease, &ours, MINUTE).await.unwrap(), "the first renews it");
    assert!(store.release(&lease, &ours).await.unwrap(), "and lets it go");
    assert!(!store.renew(&lease, &ours, MINUTE).await.unwrap(), "once");
    assert!(store.claim(&lease, &theirs, MINUTE).await.unwrap(), "it is free again");

    let left = store.ttl(a.as_bytes()).await.unwrap().unwrap();
    assert!(left <= MINUTE && left > MINUTE / 2, "{left:?}");
    assert_eq!(store.ttl(key("none").as_bytes()).await.unwrap(), None);

    subject.let_pass(Duration::from_secs(40)).await;
    store.put(vec![Write::Extend(key("b")), Write::Extend(key("none"))], MINUTE).await.unwrap();
    subject.let_pass(Duration::from_secs(40)).await;
    assert_eq!(
        store.get([a.as_bytes(), b.as_bytes(), key("none").as_bytes()]).await.unwrap(),
        [None, Some("".into()), None],
        "only what was extended is left"
    );

    subject.let_pass(MINUTE).await;
    assert_eq!(store.get([b.as_bytes()]).await.unwrap(), [None], "what is past its time");

    store.put(vec![set("a", b"1"), set("b", b"2")], MINUTE).await.unwrap();
    store.delete(&[key("a"), key("none")]).await.unwrap();
    store.delete(&[]).await.unwrap();
    assert_eq!(store.get([a.as_bytes(), b.as_bytes()]).await.unwrap(), [None, Some("2".into())]);
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_keeps_the_contract() {
    keeps_the_contract(Memory(MemoryStore::new(64 << 20))).await;
}

#[tokio::test]
async fn the_redis_store_keeps_the_contract() {
    let redis = Redis::start().unwrap();
    let store = RedisStore::new(&redis.url(), PATIENCE, 1 << 20).unwrap();
    keeps_the_contract(InRedis(Box::new(move |words| redis.cli(words).unwrap()), store)).await;
}

#[tokio::test]
async fn the_redis_store_keeps_the_contract_with_sentinels() {
    let watched = Watched::start(Brand::chosen()).unwrap();
    let store = RedisStore::new(&watched.url(), PATIENCE, 1 << 20).unwrap();
    keeps_the_contract(InRedis(Box::new(move |words| watched.servers[0].cli(words).unwrap()), store)).await;
}

#[tokio::test]
async fn the_redis_store_keeps_the_contract_on_a_cluster() {
    let cluster = Cluster::start(Brand::chosen(), 3, 0).unwrap();
    let store = RedisStore::new(&cluster.url(), PATIENCE, 1 << 20).unwrap();
    keeps_the_contract(InRedis(Box::new(move |words| cluster.cli(words).unwrap()), store)).await;
}

/// Both keys are in one slot, which moves from one node to another while they are read and written.
#[tokio::test]
async fn keys_of_a_slot_that_moves_are_found_on_either_side() {
    let cluster = Cluster::start(Brand::chosen(), 3, 0).unwrap();
    let store = RedisStore::new(&cluster.url(), PATIENCE, 1 << 20).unwrap();
    let told = Arc::new(Told(Notify::new()));
    assert!(store.follow(&[b"a".to_vec(), b"{a}".to_vec()], vec![told.clone()]));
    let (first, second) = (key("a"), key("{a}.1"));
    store.put(vec![set("a", b"1"), set("{a}.1", b"2")], MINUTE).await.unwrap();
    let both = [Some("1".into()), Some("2".into())];
    let move_ = SlotMove::begin(&cluster, "a").unwrap();
    // Of two keys on two sides, each is asked for by itself.
    move_.migrate("{a}.1").unwrap();
    assert_eq!(store.get([first.as_bytes(), second.as_bytes()]).await.unwrap(), both);
    assert!(store.claim(&key("{a}.lease"), &"ours".into(), MINUTE).await.unwrap(), "on the new side");
    store.put(vec![set("{a}.1", b"3")], MINUTE).await.unwrap();
    move_.migrate("a").unwrap();
    assert_eq!(store.get([first.as_bytes()]).await.unwrap(), [Some("1".into())]);
    move_.end().unwrap();
    assert_eq!(
        store.get([first.as_bytes(), second.as_bytes()]).await.unwrap(),
        [Some("1".into()), Some("3".into())]
    );
    assert!(store.release(&key("{a}.lease"), &"ours".into()).await.unwrap());
    // A change on the new side is heard of.
    let heard = async {
        loop {
            cluster.cli(&["SET", "a", "4"]).unwrap();
            if timeout(Duration::from_millis(100), told.0.notified()).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the new node's changes are heard of");
}

#[tokio::test]
async fn a_node_that_is_gone_costs_its_keys_alone_and_its_replica_takes_over() {
    let mut cluster = Cluster::start(Brand::chosen(), 3, 1).unwrap();
    let store = RedisStore::new(&cluster.url(), Duration::from_millis(250), 1 << 20).unwrap();
    let lost = cluster.owner("a").unwrap();
    let other =
        (0..).map(|number| format!("k{number}")).find(|name| cluster.owner(name) != Some(lost)).unwrap();
    let put = async |name: &str| store.put(vec![set(name, b"1")], MINUTE).await;
    let written = async {
        while put("a").await.is_err() || put(&other).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while cluster.nodes[lost].cli(&["WAIT", "1", "100"]).unwrap() != "1" {}
    };
    timeout(PATIENCE, written).await.expect("the cluster is known in time");
    cluster.nodes[lost].stop();
    let back = async {
        let mut tries = 0;
        while store.get([key("a").as_bytes()]).await.is_err() {
            assert_eq!(store.get([key(&other).as_bytes()]).await.unwrap(), [Some("1".into())]);
            tries += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(tries > 0, "the node was not missed");
    };
    timeout(PATIENCE, back).await.expect("the replica serves");
    assert_eq!(store.get([key("a").as_bytes()]).await.unwrap(), [Some("1".into())]);
}

#[tokio::test]
async fn a_new_master_is_used_at_once_and_an_old_one_no_more() {
    let watched = Watched::start(Brand::chosen()).unwrap();
    let store = RedisStore::new(&watched.url(), PATIENCE, 1 << 20).unwrap();
    let told = Arc::new(Told(Notify::new()));
    assert!(store.follow(&[b"a".to_vec()], vec![told.clone()]));
    store.put(vec![set("a", b"1")], MINUTE).await.unwrap();
    watched.fail_over().unwrap();
    let moved = async {
        while watched.master() != Some(1) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The old master says OK for some seconds more.
        let marked = || watched.servers[1].cli(&["GET", "mark"]).unwrap();
        while marked() != "1" {
            let _ = store.put(vec![set("mark", b"1")], MINUTE).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, moved).await.expect("writes go to the new master");
    let heard = async {
        loop {
            watched.servers[1].cli(&["SET", "a", "2"]).unwrap();
            if timeout(Duration::from_millis(100), told.0.notified()).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the new master's changes are heard of");
}

#[tokio::test]
async fn the_memory_store_keeps_its_limit() {
    let store = MemoryStore::new(1 << 20);
    let value = Bytes::from(vec![0; 10_000]);
    let names: Vec<_> = (0..1000).map(|number| key(&number.to_string())).collect();
    for name in &names {
        store.put(vec![Write::Set(name.clone(), value.clone())], MINUTE).await.unwrap();
    }
    let mut kept = 0;
    for name in &names {
        kept += usize::from(store.get([name.as_bytes()]).await.unwrap()[0].is_some());
    }
    assert!((1..=104).contains(&kept), "{kept} values of 10 kB in 1 MiB");
}

#[tokio::test]
async fn a_memory_store_of_64_mib_holds_a_page_of_16_mib() {
    let largest = 16 << 20;
    let store = MemoryStore::of_values(64 << 20, largest as u64);
    let value = Bytes::from(vec![0; largest]);
    store.put(vec![Write::Set(key("a"), value.clone())], MINUTE).await.unwrap();
    assert!(store.get([b"a"]).await.unwrap() == [Some(value)]);
}

/// Tells the test of each change.
struct Told(Notify);

impl Listener for Told {
    fn changed(&self, key: &[u8]) {
        if key == b"a" {
            self.0.notify_one();
        }
    }

    fn all_changed(&self, _: NodeNumber) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_listener_hears_of_each_change_in_redis() {
    let mut redis = Redis::start().unwrap();
    let store = RedisStore::new(&redis.url(), PATIENCE, 1 << 20).unwrap();
    let told = Arc::new(Told(Notify::new()));
    assert!(store.follow(&[b"a".to_vec()], vec![told.clone()]));
    followed(&redis, &told).await;
    let changes: [&[&str]; 5] = [
        &["SETEX", "a", "60", "1"],
        &["PEXPIRE", "a", "20"],
        &["SET", "a", "2"],
        &["DEL", "a"],
        &["FLUSHALL"],
    ];
    for change in changes {
        redis.cli(change).unwrap();
        timeout(PATIENCE, told.0.notified()).await.unwrap_or_else(|_| panic!("not heard of: {change:?}"));
    }
    redis.stop();
    timeout(PATIENCE, told.0.notified()).await.expect("a change may have been missed");
}

/// Until the store hears of changes: it connects in the background.
async fn followed(redis: &Redis, told: &Told) {
    let heard = async {
        loop {
            redis.cli(&["SET", "a", "0"]).unwrap();
            if timeout(Duration::from_millis(100), told.0.notified()).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the store follows in time");
}
