//! Scenes: a client, a proxy and an origin, and what each of them sees.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod admission;
mod article;
mod collapse;
mod explain;
mod failure;
mod faults;
mod forwarding;
mod grace;
mod hit;
mod hostile;
mod near;
mod pass;
mod program;
mod recall;
mod redis;
mod semantics;
mod streaming;
mod support;
mod vary;
