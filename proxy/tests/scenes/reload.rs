//! Settings that are read anew while the proxy serves.

use std::fs;

use serde_json::{Value, json};

use crate::admin::{Running, TOKEN, sample};
use crate::program::{refused, run};
use crate::support::{Origin, Reply};

impl Running {
    /// Changes the text of the settings.
    fn edit(&self, from: &str, to: &str) {
        let file = self.folder.path().join("cachepage.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
    }

    async fn reload(&self) -> Reply {
        self.ask("POST", "/reload", TOKEN).await
    }

    /// The `max-age` that a page of this path is answered with.
    async fn max_age(&self, target: &str) -> String {
        self.get(target, "").await.header("cache-control").to_owned()
    }
}

fn body(reply: &Reply) -> Value {
    serde_json::from_str(reply.text()).unwrap()
}

#[tokio::test]
async fn a_reload_counts_for_every_request_after_its_answer() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    assert_eq!(running.max_age("/p/1").await, "max-age=60");
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = 300");
    assert_eq!(running.max_age("/p/2").await, "max-age=60", "the file alone changes nothing");
    let reply = running.reload().await;
    assert_eq!((reply.status(), body(&reply)), (200, json!({ "generation": 2 })));
    assert_eq!(running.max_age("/p/3").await, "max-age=300");
    assert_eq!(running.get("/p/1", "").await.header("x-cache"), "HIT", "what is stored stays");
    let status = running.status().await;
    assert_eq!((&status["config"]["generation"], &status["rules"][0]["timeout"]), (&2.into(), &300.into()));
    assert_eq!(status["rules"][0]["requests"], 4, "a rule goes on counting");
}

#[tokio::test]
async fn settings_with_a_fault_change_nothing_and_all_faults_are_told() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = \"soon\"\ngrace = -1");
    let reply = running.reload().await;
    let faults = body(&reply)["faults"].as_array().unwrap().clone();
    assert_eq!((reply.status(), faults.len()), (422, 2), "{faults:?}");
    for (fault, place) in faults.iter().zip([":5: timeout: ", ":6: grace: "]) {
        assert!(fault.as_str().unwrap().contains(place), "{fault}");
    }
    assert_eq!(running.max_age("/p/1").await, "max-age=60");
    let metrics = running.ask("GET", "/metrics", "").await;
    assert_eq!(sample(metrics.text(), "cachepage_config_last_reload_successful"), 0.0);
    assert_eq!(running.status().await["config"]["generation"], 1);
    running.edit("timeout = \"soon\"\ngrace = -1", "timeout = 9");
    assert_eq!(running.reload().await.status(), 200);
    let metrics = running.ask("GET", "/metrics", "").await;
    assert_eq!(sample(metrics.text(), "cachepage_config_last_reload_successful"), 1.0);
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_then_nothing_of_the_file_counts() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = 300");
    running.edit("store = \"memory\"", "store = \"redis://127.0.0.1:1/1\"\nnear = \"1MiB\"");
    let reply = running.reload().await;
    let faults = body(&reply)["faults"].as_array().unwrap().clone();
    assert_eq!((reply.status(), faults.len()), (422, 2), "{faults:?}");
    for (fault, setting) in faults.iter().zip(["cachepage.toml:2: store: ", "cachepage.toml:3: near: "]) {
        let fault = fault.as_str().unwrap();
        assert!(fault.contains(setting) && fault.ends_with("needs a restart or a takeover"), "{fault}");
    }
    assert_eq!(running.max_age("/p/1").await, "max-age=60");
}

#[tokio::test]
async fn the_command_reloads_and_ends_with_2_for_settings_that_the_proxy_cannot_take() {
    let origin = Origin::pages("").await;
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("admin.sock").display());
    let running = Running::start(&origin, &listen, "");
    let file = running.folder.path().join("cachepage.toml");
    let command = || run(&["reload", "--config", file.to_str().unwrap()]);
    running.edit("path = \"/p/*\"", "path = \"/p/*\"\ntimeout = 300");
    let reloaded = command();
    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    assert_eq!(running.max_age("/p/1").await, "max-age=300");
    running.edit("store = \"memory\"", "store = \"redis://127.0.0.1:1/1\"");
    assert!(refused(&command()).ends_with("store: needs a restart or a takeover\n"));
    running.edit("timeout = 300", "timeout = -1");
    assert!(refused(&command()).contains("timeout: "), "a fault that is seen without the proxy");
    let away = run(&["reload", "--admin", "unix:/nowhere/admin.sock"]);
    assert_eq!(away.status.code(), Some(1));
}
