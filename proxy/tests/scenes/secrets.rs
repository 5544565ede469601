//! Tokens, passwords and credentials are in no answer to operators, no log and no metric.

use std::fs;

use crate::admin::{Running, TOKEN};
use crate::support::{Origin, exchange};

#[tokio::test]
async fn secrets_are_in_no_answer_no_log_and_no_metric() {
    let origin = Origin::pages("Set-Cookie: session=s3cret\r\n").await;
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.log");
    let running = Running::of(&format!(
        "origin = \"http://{}\"\nstore = \"redis://user:s3cret@127.0.0.1:1/0\"\nnear = \"1MiB\"\n\
         [[cache_page]]\npath = \"/p/*\"\nauthorization = \"vary\"\ncoalesce = \"fleet\"\n\
         [[follow]]\ndatabase = \"postgres://user:s3cret@127.0.0.1:1/shop\"\n[log]\naccess = {access:?}\nformat = \"json\"\n\
         [purge]\ntoken_file = \"TOKEN\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"TOKEN\"\n",
        origin.address
    ));
    let order = "{\"level\":\"debug\",\"seconds\":60}";
    let lines = format!("{TOKEN}Content-Length: {}\r\n\r\n{order}", order.len());
    let mut told = vec![running.ask("POST", "/log", &lines).await];
    let credentials =
        "Authorization: Basic s3cret\r\nCookie: session=s3cret\r\nProxy-Authorization: Basic s3cret\r\n";
    for target in ["/p/1", "/pass"] {
        running.get(target, credentials).await;
    }
    let purge = format!("PURGE /p/1 HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\n");
    told.push(exchange(running.proxy, purge.as_bytes()).await);
    let file = running.folder.path().join("cachepage.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("127.0.0.1:1/0", "127.0.0.1:2/0")).unwrap();
    told.push(running.ask("POST", "/reload", TOKEN).await);
    assert_eq!(told[2].status(), 422, "the store needs a restart");
    for path in ["/", "/metrics", "/status", "/config", "/explain?url=/p/1", "/purges", "/nothing"] {
        told.push(running.ask("GET", path, "").await);
    }
    assert!(told.iter().any(|reply| reply.text().contains("redis://user:***@127.0.0.1:1/0")));
    for reply in &told {
        let headers: String =
            reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        assert!(!format!("{headers}{}", reply.text()).contains("s3cret"), "{headers}{}", reply.text());
    }
    running.signal("-TERM");
    let ended = async { while tokio::net::TcpStream::connect(running.admin()).await.is_ok() {} };
    tokio::time::timeout(crate::support::PATIENCE, ended).await.unwrap();
    for log in [running.folder.path().join("log"), access] {
        let text = fs::read_to_string(log).unwrap();
        assert!(text.lines().count() > 1 && !text.contains("s3cret"), "{text}");
    }
}
