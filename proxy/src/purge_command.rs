//! The command `proxy purge`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use proxy::{Config, PurgePages, post_to_admin};
use serde_json::{Value, json};
use server::refuse;

/// Has the running proxy purge pages. Exits with 1 if it does not, and with 2 if the settings or the arguments are wrong.
pub(crate) async fn purge(config: &Config, asked: &PurgePages) -> ExitCode {
    let Some(admin) = &config.admin else {
        return refuse(
            &"--admin (PROXY_ADMIN): purge asks the admin listener, which is off; start the proxy with --admin ADDRESS, and name the same here",
        );
    };
    let mut done = Vec::new();
    for notice in notices(asked) {
        match post_to_admin(admin, "/purge", notice.to_string()).await {
            Ok((status, answer)) if status.is_success() => done.push(with_id(notice, &answer)),
            Ok((status, answer)) => {
                let exit = refuse(&answer.trim_end());
                return if matches!(status.as_u16(), 400 | 501) { exit } else { ExitCode::FAILURE };
            }
            Err(fault) => {
                let _ = refuse(&fault);
                return ExitCode::FAILURE;
            }
        }
    }
    match print(&done, asked.json) {
        Ok(()) => ExitCode::SUCCESS,
        // The output is closed, so there is nobody to report this to.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The requests to the listener, one for each kind.
fn notices(asked: &PurgePages) -> Vec<Value> {
    let of = |kind: &str, selectors: &[String]| json!({ "type": kind, "selectors": selectors, "purge": !asked.soft });
    let kinds = [
        ("uri", &asked.urls),
        ("uri-prefix", &asked.prefixes),
        ("origin", &asked.hosts),
        ("tag", &asked.tags),
    ];
    let named = kinds.into_iter().filter(|(_, selectors)| !selectors.is_empty());
    let all = asked.all.then(|| of("all", &[]));
    named.map(|(kind, selectors)| of(kind, selectors)).chain(all).collect()
}

fn with_id(mut notice: Value, answer: &str) -> Value {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    notice["id"] = answer["id"].clone();
    notice
}

fn print(done: &[Value], as_json: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if as_json {
        return writeln!(output, "{:#}", Value::from(done));
    }
    for notice in done {
        let how = if notice["purge"] == true { "purged" } else { "soft-purged" };
        let selectors = notice["selectors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let selectors: Vec<_> = selectors.collect();
        let kind = notice["type"].as_str().unwrap_or_default();
        let id = notice["id"].as_str().unwrap_or_default();
        writeln!(output, "{how:<11} {kind:<10} {}  ({id})", selectors.join(" "))?;
    }
    Ok(())
}
