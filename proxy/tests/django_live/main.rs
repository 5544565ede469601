//! One cache with real Django, live: `cargo test -p proxy --test django_live`.
//!
//! Needs python3 with venv, and the package index once: each Django lives in an environment under `target/tmp`. What
//! cannot be tried is named on standard error. `CACHEPAGE_DJANGO=4.2.30,6.0.10` tries these releases.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod apart;
mod keys;
mod odd;
mod pages;
mod random;
mod site;
#[path = "../scenes/support.rs"]
#[allow(dead_code, reason = "the scenes use all of it")]
mod support;
mod venv;
