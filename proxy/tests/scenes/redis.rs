//! The commands that Redis gets and the values that it holds: the article's MONITOR, key, TTL and page.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use stack::Redis;

use crate::backend::Backend;
use crate::support::{Origin, RULES, Scene, Setup};

const ARTICLE: &str = "[[cache_page]]\npath = \"/api/properties/cached/\"\ntimeout = 60\n";
const KEY: &str =
    ":1:views.decorators.cache.cache_page.GET./api/properties/cached/.d41d8cd98f00b204e9800998ecf8427e";

/// A running `redis-cli monitor`.
struct Monitor {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Monitor {
    fn start(redis: &Redis) -> Self {
        let mut child = Command::new(redis.cli_program())
            .args(["-p", &redis.port().to_string(), "monitor"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "OK");
        Self { child, lines }
    }

    /// The commands so far, without those that set up a connection. A `PING` of ours marks their end.
    fn commands(&mut self, redis: &Redis) -> Vec<String> {
        redis.cli(&["PING", "end"]).unwrap();
        let commands = self.lines.by_ref().map(|line| line.unwrap().split_once("] ").unwrap().1.to_owned());
        let commands = commands.take_while(|command| !command.starts_with("\"PING\" \"end\""));
        let set_up = ["\"SELECT\"", "\"CLIENT\"", "\"HELLO\"", "\"COMMAND\""];
        commands.filter(|command| !set_up.iter().any(|word| command.starts_with(word))).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn monitor_shows_the_commands_of_the_article() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, ARTICLE).await;
    let mut monitor = Monitor::start(&redis);

    scene.get("/api/properties/cached/").await;
    let miss = monitor.commands(&redis);
    assert_eq!(miss[0], format!("\"GET\" \"{KEY}\""));
    assert!(
        miss[1].starts_with(&format!("\"SETEX\" \"{KEY}\" \"60\" \"HTTP/1.1 200 OK\\r\\n")),
        "{}",
        miss[1]
    );
    assert_eq!(miss.len(), 2);

    scene.get("/api/properties/cached/").await;
    assert_eq!(monitor.commands(&redis), [format!("\"GET\" \"{KEY}\"")]);

    // The page expires.
    redis.cli(&["PEXPIRE", KEY, "1"]).unwrap();
    while redis.cli(&["EXISTS", KEY]).unwrap() == "1" {}
    monitor.commands(&redis);
    scene.get("/api/properties/cached/").await;
    assert_eq!(monitor.commands(&redis).len(), 2);

    scene.get("/api/properties/cached/?page=2").await;
    let second = monitor.commands(&redis);
    let page_2 = KEY.replace("d41d8cd98f00b204e9800998ecf8427e", "46589c7afd19c01453073936936c2a84");
    assert_eq!(second[0], format!("\"GET\" \"{page_2}\""));

    scene
        .send("POST /api/properties/cached/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 0\r\n\r\n")
        .await;
    scene.get("/other").await;
    assert_eq!(monitor.commands(&redis), [] as [&str; 0], "a pass sends no command");
}

#[tokio::test]
async fn the_stored_value_is_readable_text() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, ARTICLE).await;
    let miss = scene.get("/api/properties/cached/").await;
    let value = redis.cli(&["GET", KEY]).unwrap();
    let lines: Vec<_> = value.lines().map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(lines[0], "HTTP/1.1 200 OK");
    assert!(lines[1].starts_with("Cachepage-Expires: "), "{value}");
    let expires = format!("Expires: {}", miss.header("expires"));
    let rest = [
        "Content-Type: text/plain",
        "Content-Length: 6",
        &expires,
        "Cache-Control: max-age=60",
        "",
        "page 1",
    ];
    assert_eq!(lines[2], format!("Cachepage-Key: {KEY}"));
    assert_eq!(lines[3..], rest);
    let ttl: u64 = redis.cli(&["TTL", KEY]).unwrap().parse().unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_variant_takes_one_round_trip_once_its_marker_is_known() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("Vary: Accept\r\n").await;
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, RULES).await;
    let mut monitor = Monitor::start(&redis);
    scene.get_with("/p/", "Accept: a/b\r\n").await;
    let first = monitor.commands(&redis);
    let names: Vec<_> = first.iter().map(|command| command.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["\"GET\"", "\"SETEX\"", "\"SETEX\""]);
    assert!(first[1].contains("cachepage/1 vary "), "{}", first[1]);

    scene.get_with("/p/", "Accept: a/b\r\n").await;
    let hit = monitor.commands(&redis);
    assert_eq!(hit.len(), 1);
    assert!(hit[0].starts_with("\"MGET\" "), "{}", hit[0]);

    // Another variant extends the marker's TTL, but never writes the marker again.
    scene.get_with("/p/", "Accept: c/d\r\n").await;
    let other: Vec<_> = monitor
        .commands(&redis)
        .iter()
        .map(|command| command.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(other, ["\"MGET\"", "\"EXPIRE\"", "\"SETEX\""]);
}

/// A purge during the fetch of a variant: the deleted marker, and with it the older variants, must not come back.
#[tokio::test]
async fn a_purge_during_a_fill_is_not_undone() {
    let redis = std::sync::Arc::new(Backend::start().unwrap());
    let base = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";
    let purge = redis.clone();
    let origin = Origin::new(move |_, number| {
        if number == 2 {
            assert_eq!(purge.cli(&["DEL", base]).unwrap(), "1");
        }
        crate::support::Script::Answer(crate::support::page("Vary: Accept\r\n", &format!("page {number}")))
    })
    .await;
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, RULES).await;
    for (accept, text) in [("a/b", "page 1"), ("c/d", "page 2"), ("a/b", "page 3")] {
        assert_eq!(scene.get_with("/p/", &format!("Accept: {accept}\r\n")).await.text(), text);
    }
}

#[tokio::test]
async fn clocks_that_differ_make_no_page_younger_than_new_or_older_than_its_rule() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, ARTICLE).await;
    scene.get("/api/properties/cached/").await;
    let value = redis.cli(&["GET", KEY]).unwrap();
    let line = |name: &str| value.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (end, date) = (line("Cachepage-Expires: ").parse::<i64>().unwrap(), line("\nExpires: ".trim_start()));
    // Another proxy, whose clock is two minutes ahead or behind, has stored the page just now.
    for (minutes, ages, ttls) in [(2, 0..=0, 60..=60), (-2, 60..=60, 0..=0), (0, 0..=10, 50..=60)] {
        let shifted = end + 60 * minutes;
        let expires = std::time::UNIX_EPOCH + std::time::Duration::from_secs(shifted as u64);
        let skewed = value
            .replace(&format!("Cachepage-Expires: {end}"), &format!("Cachepage-Expires: {shifted}"))
            .replace(
                &format!("\nExpires: {date}"),
                &format!("\nExpires: {}", httpdate::fmt_http_date(expires)),
            );
        redis.cli(&["SETEX", KEY, "60", &skewed]).unwrap();
        let hit = scene.get("/api/properties/cached/").await;
        let ttl =
            hit.header("cache-status").strip_prefix("cachepage; hit; ttl=").unwrap().parse::<i64>().unwrap();
        let age = hit.header("age").parse::<i64>().unwrap();
        assert!(ages.contains(&age) && ttls.contains(&ttl), "{minutes} minutes: {age} {ttl}");
    }
}
