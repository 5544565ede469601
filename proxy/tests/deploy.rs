//! The files of the stack in containers say what the programs need. None of them starts here.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use proxy::{Args, Coalesce, Config};

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
    let mut expected: Vec<_> = packages.chain(["!Cargo.lock", "!Cargo.toml"].map(str::to_owned)).collect();
    expected.sort();
    assert_eq!(admitted, expected);
}

#[test]
fn the_image_is_built_once() {
    // One that an anchor gave to several services would be several builds.
    let build = "    build: .";
    assert_eq!(
        (read("compose.yaml").matches("build:").count(), service("seed").matches(build).count()),
        (1, 1)
    );
}

#[test]
fn programs_are_asked_for_their_health_by_themselves() {
    for (name, asks) in
        [("proxy", r#"["CMD", "proxy", "health"]"#), ("origin", r#"["CMD", "origin", "health"]"#)]
    {
        assert!(service(name).contains(asks), "{name}");
    }
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
