//! The files for Prometheus and Grafana name series that the proxy has.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::admin::Running;
use crate::support::Origin;

const FILES: [&str; 2] = ["deploy/grafana.json", "deploy/alerts.yaml"];

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// The names of series in a text.
fn series(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("cachepage_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// The labels and values that a text compares: `outcome="hit"` and each of `outcome=~"hit|stale"`.
fn matchers(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let text = text.replace("\\\"", "\"");
    for label in ["outcome", "direction"] {
        for rest in text.split(label).skip(1) {
            let compared = ["=~\"", "!~\"", "!=\"", "=\""].iter().find_map(|begin| rest.strip_prefix(begin));
            let Some(values) = compared.and_then(|rest| rest.split('"').next()) else { continue };
            found.extend(values.split('|').map(|value| (label.to_owned(), value.to_owned())));
        }
    }
    found
}

#[tokio::test]
async fn each_panel_and_each_alert_names_a_series_of_the_proxy() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let metrics = running.ask("GET", "/metrics", "").await;
    // The name of a sample, or of its family where nothing has been counted yet.
    let known = series(metrics.text());
    for file in FILES {
        let text = std::fs::read_to_string(path(file)).unwrap();
        let named = series(&text);
        assert!(named.len() > 5, "{file} names {named:?}");
        let is_known = |name: &&String| known.contains(name.trim_end_matches("_bucket"));
        let unknown: Vec<_> = named.iter().filter(|name| !is_known(name)).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which /metrics does not have");
        for (label, value) in matchers(&text) {
            assert!(metrics.text().contains(&format!("{label}=\"{value}\"")), "{file}: {label}=\"{value}\"");
        }
    }
}

#[test]
fn promtool_accepts_the_alerts() {
    match Command::new("promtool").args(["check", "rules"]).arg(path("deploy/alerts.yaml")).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => println!("promtool is not on the PATH: the alerts were not checked"),
    }
}

#[test]
fn the_dashboard_has_an_expression_in_each_panel() {
    let text = std::fs::read_to_string(path("deploy/grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let is_row = panel["type"] == "row";
        assert!(is_row || !series(panel["targets"][0]["expr"].as_str().unwrap()).is_empty(), "{panel}");
    }
    assert!(panels.len() > 15);
}
