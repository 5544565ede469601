//! The proxy and a running Django on one cache: `cargo test -p proxy --test django_live`.
//!
//! The tests need python3 with venv, and the package index once: each Django has an environment under `target/tmp`. A
//! release that cannot be tested is named on standard error. By default Django 5.2.19 is tested;
//! `CACHEPAGE_DJANGO=5.2.19,6.1.3,4.2.30` tests these.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod apart;
#[path = "../scenes/backend.rs"]
#[allow(dead_code, reason = "the scenes use the rest")]
mod backend;
#[path = "../scenes/chromium.rs"]
mod chromium;
mod cms;
mod conditional;
mod contrib;
mod early;
mod init;
mod keys;
mod odd;
mod pages;
mod python;
mod random;
mod site;
#[path = "../scenes/support.rs"]
#[allow(dead_code, reason = "the scenes use the rest")]
mod support;
#[path = "../scenes/tunnel.rs"]
#[allow(dead_code, reason = "the scenes use the rest")]
mod tunnel;
mod venv;
