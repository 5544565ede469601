//! The files of packages, images and manifests say what the programs need. Nothing of them starts here.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use proxy::{Args, Coalesce, Config};
use serde_json::Value;

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The lines of a service in compose.yaml.
fn service(name: &str) -> String {
    let file = read("compose.yaml");
    let after = file.split_once(&format!("\n  {name}:\n")).unwrap().1;
    after
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn config(settings: &str) -> Config {
    Config::parse(&Args::parse_from(["proxy"]), Some(("cachepage.toml", settings))).unwrap()
}

/// What settings mean, wherever they stand.
fn meaning(config: Config) -> String {
    format!("{:?}", Config { leaves: Default::default(), ..config })
}

#[test]
fn the_build_gets_each_package_of_the_workspace_and_nothing_that_is_not_named() {
    let ignored = read(".dockerignore");
    let lines: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    let (first, admitted) = lines.split_first().unwrap();
    assert_eq!(*first, "*");
    let workspace = read("Cargo.toml");
    let members = workspace.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members = members.split(',').map(|name| name.trim().trim_matches('"'));
    let packages = members.flat_map(|name| [format!("!{name}/Cargo.toml"), format!("!{name}/src")]);
    let others = ["!Cargo.lock", "!Cargo.toml", "!deploy/image", "!proxy/build.rs"].map(str::to_owned);
    let mut expected: Vec<_> = packages.chain(others).collect();
    expected.sort();
    assert_eq!(admitted, expected);
}

#[test]
fn each_image_is_built_once() {
    // A build that an anchor gave to several services would be several builds.
    assert_eq!(read("compose.yaml").matches("build:").count(), 2);
    for (name, target) in [("seed", "laboratory"), ("proxy", "cachepage")] {
        assert!(
            service(name).contains(&format!("    build: {{ <<: *compilation, target: {target} }}")),
            "{name}"
        );
    }
}

#[test]
fn programs_are_asked_for_their_health_by_themselves() {
    assert!(service("origin").contains(r#"["CMD", "origin", "health"]"#));
    // Wherever the image runs.
    assert!(read("Dockerfile").contains(r#"CMD ["/usr/bin/cachepage", "health"]"#));
}

#[test]
fn the_settings_of_the_image_differ_from_the_defaults_in_the_address_alone() {
    let (image, default) = (config(&read("deploy/image/cachepage.toml")), config(""));
    assert_eq!(image.listeners[0].to_string(), "http://0.0.0.0:8000");
    let listeners = default.listeners.clone();
    assert_eq!(meaning(Config { listeners, ..image }), meaning(default));
}

#[test]
fn a_proxy_has_the_time_for_its_own_end() {
    let service = service("proxy");
    let given = service.split_once("stop_grace_period: ").unwrap().1.split_once("s\n").unwrap().0;
    let given = Duration::from_secs(given.parse().unwrap());
    // Once for requests under way, once for the fills that they leave.
    assert!(given > 2 * config("").clients.deadlines.shutdown);
}

#[test]
fn the_proxies_of_the_fleet_share_their_misses_and_believe_their_balancer() {
    let config = config(&read("deploy/fleet/cachepage.toml"));
    assert!(config.warnings.is_empty() && !config.trusted_proxies.is_empty());
    assert!(config.rules.iter().all(|rule| rule.coalesce == Coalesce::Fleet));
}

/// The settings of a package, all of them in force: a line that begins with `#` and no blank is a setting.
fn with_all_settings(text: &str) -> String {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// The names of the settings that are not given, in all sections and tables.
fn defaults(value: &Value, name: &str, found: &mut BTreeSet<String>) {
    let Value::Object(members) = value else {
        return value.as_array().into_iter().flatten().for_each(|item| defaults(item, name, found));
    };
    if members.get("from").is_some_and(|from| from == "default") {
        found.insert(name.to_owned());
    }
    members.iter().for_each(|(name, value)| defaults(value, name, found));
}

#[test]
fn the_settings_in_the_debian_package_are_all_that_there_are() {
    let packaged = read("deploy/debian/cachepage.toml");
    let all = with_all_settings(&packaged).replace("keys = \"path\"", "keys = \"django\"");
    let mut missing = BTreeSet::new();
    defaults(&config(&all).leaves.json(), "", &mut missing);
    assert!(missing.is_empty(), "{missing:?} are not in the file");
    // Those of tables that stand in place of others are in comments.
    let tables = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[origin]]\nurl = \"https://app\"\n[[follow]]\n\
                  database = \"postgres://127.0.0.1/shop\"\n[[cache_page]]\npath = \"/\"\npolicy = \"http\"\n";
    let mut named = BTreeSet::new();
    defaults(&config(tables).leaves.json(), "", &mut named);
    let missing: Vec<_> = named.iter().filter(|name| !packaged.contains(&format!("{name} = "))).collect();
    assert!(missing.is_empty(), "{missing:?} are not in the file");
    assert!(named.len() > 60, "{named:?}");
}

#[test]
fn the_settings_in_the_debian_package_are_the_defaults() {
    let packaged = read("deploy/debian/cachepage.toml");
    // Its admin listener is on, and that is all.
    let (as_installed, default) = (config(&packaged), config("[admin]\nlisten = \"127.0.0.1:8002\""));
    assert_eq!(meaning(as_installed), meaning(default));
    let all = with_all_settings(&packaged);
    let (before, rest) = all.split_once("\n[django]\n").unwrap();
    let of_path = format!("{before}\n[[cache_page]]{}", rest.split_once("[[cache_page]]").unwrap().1);
    let default = config("[admin]\nlisten = \"127.0.0.1:8002\"\n[[cache_page]]\npath = \"/blog/*\"");
    assert_eq!(meaning(config(&of_path)), meaning(default));
    config(&all.replace("keys = \"path\"", "keys = \"django\""));
}

#[test]
fn the_unit_has_the_time_for_the_end_of_the_program_and_its_folders() {
    let unit = read("deploy/systemd/cachepage.service");
    let stop = unit.split_once("TimeoutStopSec=").unwrap().1.lines().next().unwrap();
    assert!(Duration::from_secs(stop.parse().unwrap()) > 2 * config("").clients.deadlines.shutdown);
    for line in [
        "Type=notify",
        "RuntimeDirectory=cachepage",
        "LogsDirectory=cachepage",
        "StateDirectory=cachepage",
        "DynamicUser=yes",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    assert!(unit.contains("ExecStart=/usr/bin/cachepage --config /etc/cachepage/cachepage.toml\n"));
}

/// The settings in the ConfigMap, with a token file that is there.
fn in_kubernetes(manifest: &str, token: &Path) -> Config {
    let text = manifest.split_once("cachepage.toml: |\n").unwrap().1.split_once("\n---").unwrap().0;
    let token = token.display().to_string();
    config(&text.replace("/run/secrets/cachepage/token", &token).replace("\n    ", "\n"))
}

#[test]
fn the_manifest_for_kubernetes_agrees_with_the_settings_in_it() {
    let manifest = read("deploy/kubernetes/cachepage.yaml");
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), "s3cret").unwrap();
    let config = in_kubernetes(&manifest, token.path());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let given = manifest.split_once("terminationGracePeriodSeconds: ").unwrap().1.lines().next().unwrap();
    let needed = config.pre_stop_delay + 2 * config.clients.deadlines.shutdown;
    assert!(Duration::from_secs(given.parse().unwrap()) > needed);
    let http = config.port();
    let admin = config.admin.unwrap().listen.to_string();
    let port = admin.rsplit(':').next().unwrap();
    assert!(manifest.contains(&format!("name: admin, containerPort: {port} ")));
    assert!(manifest.contains(&format!("name: http, containerPort: {http} ")));
    for (probe, path) in
        [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz"), ("startupProbe", "/readyz")]
    {
        let asks = manifest.split_once(probe).unwrap().1.lines().nth(1).unwrap().trim();
        assert_eq!(asks, format!("httpGet: {{ path: {path}, port: admin }}"), "{probe}");
    }
    assert!(config.rules.iter().all(|rule| rule.coalesce == Coalesce::Fleet));
    assert!(manifest.contains(&format!("image: cachepage:{}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_image_is_labelled_with_the_version_and_runs_as_nobody() {
    let file = read("Dockerfile");
    for text in [
        format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION")),
        "USER 65532:65532".to_owned(),
        "STOPSIGNAL SIGTERM".to_owned(),
    ] {
        assert!(file.contains(&text), "{text}");
    }
    assert_eq!(file.matches("FROM scratch").count(), 2);
}

#[test]
fn the_admin_listener_of_the_stack_is_published_on_the_loopback_and_wants_its_token() {
    let text = read("deploy/compose/cachepage.toml");
    let token = root().join("deploy/compose/token");
    let config = config(&text.replace("/etc/cachepage/token", &token.display().to_string()));
    let admin = config.admin.unwrap();
    assert!(admin.token.is_some());
    let port = admin.listen.to_string().rsplit(':').next().unwrap().to_owned();
    assert!(service("proxy").contains(&format!("\"127.0.0.1:{port}:{port}\"")));
}
