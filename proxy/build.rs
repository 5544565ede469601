//! Puts the revision of the source into the version of the program, if CACHEPAGE_REVISION names it.
#![allow(clippy::print_stdout, reason = "this is how a build script answers")]

use std::env;

fn main() {
    let revision = env::var("CACHEPAGE_REVISION").unwrap_or_default();
    let number = env!("CARGO_PKG_VERSION");
    let version = if revision.is_empty() { number.to_owned() } else { format!("{number} ({revision})") };
    println!("cargo::rerun-if-env-changed=CACHEPAGE_REVISION");
    println!("cargo::rustc-env=CACHEPAGE_VERSION={version}");
    println!("cargo::rustc-env=CACHEPAGE_REVISION={revision}");
}
