//! One cache with real Django, live: `cargo test -p proxy --test django_live`.
//!
//! Needs python3 with venv, and the package index once: each Django lives in an environment under `target/tmp`. What
//! cannot be tried is named on standard error. Django 5.2.19 is tried; `CACHEPAGE_DJANGO=5.2.19,6.1.3,4.2.30` tries these.

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
