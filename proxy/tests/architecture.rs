//! The layers of the proxy, as its `use` lines show them: which room may name which, and what pure rooms may not name.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, a file or a folder of `src`, and the rooms that it may name. A room names only rooms above it.
const ROOMS: &[(&str, &[&str])] = &[
    ("args", &[]),
    ("systemd", &[]),
    ("text", &[]),
    ("tls", &[]),
    ("pattern", &[]),
    ("pickle", &[]),
    ("request", &["pattern", "text"]),
    ("purge", &["request"]),
    ("policy", &["pattern", "request"]),
    ("weight", &[]),
    ("histogram", &[]),
    ("key", &["policy", "request", "text", "weight"]),
    ("status", &["policy", "request", "text"]),
    ("counts", &["histogram", "status"]),
    ("page", &["key", "pickle", "policy", "purge", "request", "status", "text", "weight"]),
    ("variants", &["key", "weight"]),
    ("head_cache", &["key", "page", "weight"]),
    ("store", &["histogram", "key", "purge", "tls", "weight"]),
    ("near", &["key", "page", "policy", "request", "store", "weight"]),
    ("origin", &["histogram", "pattern", "policy", "purge", "request", "tls"]),
    ("error", &["origin", "request", "status"]),
    ("share", &["error", "key", "page", "store"]),
    ("follow", &["tls"]),
    ("client", &[]),
    ("acme", &["client", "key", "store", "tls"]),
    (
        "config",
        &[
            "acme", "args", "follow", "key", "origin", "page", "pattern", "pickle", "policy", "request",
            "store", "tls",
        ],
    ),
    ("access_log", &["config", "status"]),
    ("traffic", &["request"]),
    ("forecast", &["args", "config", "key", "policy", "request"]),
    (
        "way",
        &[
            "access_log",
            "acme",
            "args",
            "config",
            "counts",
            "error",
            "follow",
            "head_cache",
            "histogram",
            "key",
            "near",
            "origin",
            "page",
            "policy",
            "purge",
            "request",
            "share",
            "status",
            "store",
            "text",
            "traffic",
            "variants",
            "weight",
        ],
    ),
    ("reload", &["access_log", "acme", "args", "config", "store", "systemd", "way"]),
    (
        "admin",
        &[
            "acme",
            "args",
            "client",
            "config",
            "counts",
            "histogram",
            "origin",
            "purge",
            "reload",
            "request",
            "status",
            "store",
            "way",
        ],
    ),
    ("probe", &[]),
    ("init_command", &[]),
    ("purge_command", &[]),
    ("reload_command", &[]),
    ("warm_command", &[]),
    ("main", &["init_command", "purge_command", "reload_command", "warm_command"]),
    ("visitor", &["client", "request"]),
    ("init", &["args", "config", "key", "page", "policy", "request", "store", "visitor", "way"]),
    ("warm", &["args", "visitor"]),
    (
        "lib",
        &[
            "access_log",
            "acme",
            "admin",
            "args",
            "config",
            "follow",
            "forecast",
            "init",
            "key",
            "origin",
            "page",
            "policy",
            "probe",
            "purge",
            "reload",
            "request",
            "store",
            "systemd",
            "warm",
            "way",
        ],
    ),
];

/// Rooms of values, decisions and formats: the same input gives the same output.
const PURE: [&str; 8] = ["key", "page", "pickle", "policy", "purge", "request", "status", "text"];

/// A store, the network, the clock, chance, the log: a pure room names none of them. Of the server it may name the parts
/// of a request: its borrowed head, its target, its peer.
const IMPURE: [&str; 13] = [
    "tokio",
    "bb8",
    "use rand",
    "rand::random",
    "tracing",
    "std::fs",
    "std::thread",
    "hyper::body",
    "hyper::client",
    "hyper_util",
    "TcpStream",
    "Instant",
    "::now()",
];

/// Files that may not name a neighbour in their own room: a page does not know how it is written, a body on its way to the
/// origin does not know the connections there.
const APART: [(&str, &str); 6] = [
    ("page/entry.rs", "format"),
    ("page/stored.rs", "format"),
    ("origin/upload.rs", "gate"),
    ("origin/upload.rs", "link"),
    ("origin/gate.rs", "link"),
    ("origin/silence.rs", "link"),
];

/// The sources without comments and tests, by room.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let read = |file: PathBuf| {
        let room = file.strip_prefix(&root).unwrap().iter().next().unwrap();
        let room = room.to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        (room, file, lines.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(read).filter(|(room, ..)| room != "fuzzing").collect()
}

/// The rooms that a source names: `crate::room` in `use` lines and elsewhere; in `lib.rs` also `pub use room`.
fn named(room: &str, code: &str) -> BTreeSet<String> {
    let after =
        |text: &str| text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    let mut named: BTreeSet<_> = code.split("crate::").skip(1).map(after).collect();
    if room == "lib" {
        named.extend(code.split("pub use ").skip(1).map(after));
    }
    named.remove("");
    named.remove(room);
    named
}

#[test]
fn each_room_names_only_the_rooms_that_it_may_name() {
    for (room, file, code) in sources() {
        let allowed = ROOMS.iter().find(|(name, _)| *name == room);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{room} is not among the rooms of this test"));
        for other in named(&room, &code) {
            assert!(allowed.contains(&other.as_str()), "{} names {other}", file.display());
        }
    }
}

#[test]
fn no_rooms_name_each_other_in_a_circle() {
    let rooms: Vec<_> = ROOMS.iter().map(|(name, _)| *name).collect();
    for (index, (room, allowed)) in ROOMS.iter().enumerate() {
        for other in *allowed {
            let at = rooms.iter().position(|name| name == other).unwrap();
            assert!(at < index, "{room} may name {other}, which stands below it");
        }
    }
}

#[test]
fn pure_rooms_name_no_store_no_network_no_clock_and_no_chance() {
    for (room, file, code) in sources() {
        if !PURE.contains(&room.as_str()) {
            continue;
        }
        for word in IMPURE {
            assert!(!code.contains(word), "{} names {word}", file.display());
        }
        for named in code.split("server::").skip(1) {
            let is_request = ["Peer", "RequestHead", "SentTarget"].iter().any(|part| named.starts_with(part));
            assert!(is_request, "{} names the server", file.display());
        }
    }
}

#[test]
fn files_that_are_kept_apart_do_not_name_each_other() {
    for (file, other) in APART {
        let (_, path, code) = sources().into_iter().find(|(_, path, _)| path.ends_with(file)).unwrap();
        let is_named = code.contains(&format!("super::{other}")) || code.contains(&format!("{other}::"));
        assert!(!is_named, "{} names {other}", path.display());
    }
}
