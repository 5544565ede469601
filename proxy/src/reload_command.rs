//! The command `proxy reload`.

use std::process::ExitCode;

use proxy::{Config, post_to_admin};
use serde_json::Value;
use server::{fail, refuse};

/// Has the running proxy read its settings anew. Exits with 2 if it finds a fault in them, and with 1 if it cannot be reached.
/// This process has found no fault in the settings.
pub(crate) async fn reload(config: &Config) -> ExitCode {
    let Some(admin) = &config.admin else {
        return refuse(
            &"--admin (PROXY_ADMIN): reload asks the admin listener, which is off: start the proxy with --admin ADDRESS, and name the same here, or send it SIGHUP",
        );
    };
    match post_to_admin(admin, "/reload", String::new()).await {
        Ok((status, _)) if status.is_success() => ExitCode::SUCCESS,
        Ok((status, answer)) if status.as_u16() == 422 => refuse(&faults(&answer)),
        Ok((_, answer)) => fail(&answer.trim_end()),
        Err(fault) => fail(&fault),
    }
}

/// The faults, one a line.
fn faults(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let faults = answer["faults"].as_array().into_iter().flatten().filter_map(Value::as_str);
    faults.collect::<Vec<_>>().join("\n")
}
