//! A Django site and a proxy on the same Redis.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use stack::{Launch, Program, Redis, free_port, new_folder};

use crate::support::{Reply, Scene, exchange, redis_store};
use crate::venv::{APP, Django};

/// The Host of requests that set no other.
pub(crate) const HOST: &str = "shop.example";

/// A cache of the site: its name, the number of its Redis database, and its settings for the proxy.
pub(crate) type Cache = (&'static str, u8, &'static str);

pub(crate) const PLAIN: Cache = ("plain", 1, "");
pub(crate) const REDIS: Cache = ("redis", 2, "");

pub(crate) const CACHES: [Cache; 9] = [
    PLAIN,
    REDIS,
    ("zlib", 3, "compressor = \"zlib\"\n"),
    ("gzip", 4, "compressor = \"gzip\"\n"),
    ("zstd", 5, "compressor = \"zstd\"\n"),
    ("lz4", 6, "compressor = \"lz4\"\n"),
    ("lzma", 7, "compressor = \"lzma\"\n"),
    ("named", 8, "key_prefix = \"café.de\"\nkey_version = 7\n"),
    ("named-redis", 9, "key_prefix = \"shop\"\nkey_version = 12\n"),
];

/// The settings of a new Django project.
pub(crate) const NEW: &str = "language = \"en-us\"\ntime_zone = \"UTC\"\n";

/// A running site. Dropping it stops it.
pub(crate) struct Site {
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    pub(crate) redis: Redis,
    _gunicorn: Program,
}

impl Site {
    /// Starts a site with these settings, as JSON, and environment variables.
    pub(crate) async fn start(django: &Django, settings: &str, env: &[(&str, &str)]) -> Self {
        let redis = Redis::start().unwrap();
        let (port, folder) = (free_port().unwrap(), new_folder().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut launch = Launch::new("gunicorn", &django.python, &folder.join("gunicorn.log"))
            .args(["-m", "gunicorn", "--workers", "1", "--threads", "4", "--graceful-timeout", "1"])
            .args(["--no-control-socket", "--bind", &address.to_string(), "--chdir", APP, "wsgi"])
            .env("REDIS", &format!("redis://127.0.0.1:{}", redis.port()))
            .env("SITE", settings)
            // Python writes no files next to the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .folder(&folder);
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        let mut gunicorn = launch.start().unwrap();
        let started = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let ended = gunicorn.try_wait().is_some() || started.elapsed() > Duration::from_secs(60);
            assert!(!ended, "{}", gunicorn.last_lines(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let site = Self { version: django.version.clone(), address, redis, _gunicorn: gunicorn };
        let up = site.get("/up/", b"").await;
        assert_eq!(up.text(), "up", "{}", site._gunicorn.last_lines(30));
        site
    }

    /// The URL of a cache's database.
    pub(crate) fn store(&self, (_, database, _): Cache) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.redis.port())
    }

    /// Starts a proxy in front of this site that shares a cache with it. `django` has further lines of its `[django]`
    /// section, `rules` its rules.
    pub(crate) async fn proxy(&self, cache: Cache, django: &str, rules: &str) -> Scene {
        self.proxy_before(self.address, cache, django, rules).await
    }

    /// Starts such a proxy in front of another origin.
    pub(crate) async fn proxy_before(
        &self,
        origin: SocketAddr,
        cache: Cache,
        django: &str,
        rules: &str,
    ) -> Scene {
        let (version, more) = (&self.version, cache.2);
        let settings = format!("keys = \"django\"\n[django]\nversion = \"{version}\"\n{django}{more}{rules}");
        Scene::with(origin, redis_store(&self.store(cache)), &settings).await
    }

    /// Sends a request to Django itself.
    pub(crate) async fn get(&self, target: &str, headers: &[u8]) -> Reply {
        exchange(self.address, &request("GET", target, headers)).await
    }

    /// Has Django run a command on a cache.
    pub(crate) async fn control(&self, (cache, ..): Cache, command: &str) {
        assert_eq!(self.get(&format!("/control/{cache}/{command}"), b"").await.text(), "done", "{command}");
    }

    /// The keys of a cache.
    pub(crate) fn keys(&self, (_, database, _): Cache) -> Vec<String> {
        let keys = self.redis.cli(&["-n", &database.to_string(), "KEYS", "*"]).unwrap();
        keys.lines().map(str::to_owned).collect()
    }
}

/// A rule for all paths.
pub(crate) const ALL: &str = "[[cache_page]]\npath = \"/*\"\ntimeout = 60\n";

/// A request. The header lines may start with a Host and may contain any bytes.
pub(crate) fn request(method: &str, target: &str, headers: &[u8]) -> Vec<u8> {
    let has_host = headers.starts_with(b"Host:");
    let host = if has_host { String::new() } else { format!("Host: {HOST}\r\n") };
    let mut request = format!("{method} {target} HTTP/1.1\r\n{host}").into_bytes();
    request.extend_from_slice(headers);
    request.extend_from_slice(b"\r\n");
    request
}

/// Sends a request to a proxy.
pub(crate) async fn ask(proxy: &Scene, target: &str, headers: &[u8]) -> Reply {
    exchange(proxy.address, &request("GET", target, headers)).await
}

impl Site {
    /// The difference between the proxy's answer and Django's, in status line, headers and body. The order of headers
    /// is ignored, as are headers of the connection and of the proxy itself; ages may differ by 3 seconds.
    pub(crate) fn difference(&self, ours: &Reply, theirs: &Reply) -> Option<String> {
        // Django adds an Age since 5.0.
        let has_age = !self.version.starts_with("4.");
        let (a, b) = (comparable(ours, has_age), comparable(theirs, has_age));
        if a != b {
            let only = |a: &[String], b: &[String]| {
                a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
            };
            return Some(format!("proxy {:?}, Django {:?}", only(&a, &b), only(&b, &a)));
        }
        let ages = [ours, theirs].map(|reply| reply.header("age").parse::<i64>().unwrap_or(0));
        if has_age && (ages[0] - ages[1]).abs() > 3 {
            return Some(format!("ages {ages:?}"));
        }
        (ours.body != theirs.body).then(|| {
            let [ours, theirs] = [ours, theirs].map(|reply| String::from_utf8_lossy(&reply.body));
            format!("body {ours:?}, Django {theirs:?}")
        })
    }
}

fn comparable(reply: &Reply, has_age: bool) -> Vec<String> {
    let own = [
        "date",
        "server",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "x-cache",
        "cache-status",
        if has_age { "" } else { "age" },
    ];
    let lines = reply.without(&own).into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let lines = lines.map(|(name, value)| match name.as_str() {
        "age" => "age: a number".to_owned(),
        _ => format!("{name}: {value}"),
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.insert(0, reply.line.split_once(' ').map_or("", |(_, status)| status).to_owned());
    lines
}

/// The folder of the test's site.
pub(crate) fn app() -> &'static Path {
    Path::new(APP)
}
