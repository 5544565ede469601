//! The README and docs/ are true: links hold, the reference lists what the code has, commands print what is shown, and
//! words are spelled right. `cargo test -p proxy --test docs`

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod commands;
mod links;
mod names;
mod pages;
#[path = "../django_live/python.rs"]
mod python;
mod reference;
mod settings;
mod spelling;
mod stage;
