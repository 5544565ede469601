//! Scenes: a client, a proxy and an origin, and what each of them sees.
//!
//! A scene whose proxy may have a near cache is a function of its [`support::Setup`], and `scenes!` makes a test of it for
//! each. Other scenes are plain tests: those whose store is in memory, and those about the near cache itself.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

/// A test for each of these scenes over each set-up. A failure names both.
macro_rules! scenes {
    ($($scene:ident)*) => {
        mod plain {
            $(#[tokio::test]
            async fn $scene() {
                super::$scene(crate::support::Setup::Plain).await;
            })*
        }

        mod near {
            $(#[tokio::test]
            async fn $scene() {
                super::$scene(crate::support::Setup::Near).await;
            })*
        }
    };
}

mod access_log;
mod acme;
mod admin;
mod admin_page;
mod admission;
mod answered;
mod article;
mod backend;
mod chromium;
mod collapse;
mod commands;
mod compress;
mod conditional_get;
mod conditions;
mod cookies;
mod counted;
mod dashboards;
mod early;
mod explain;
mod explained;
mod failure;
mod faults;
mod follow;
mod follow_tls;
mod forecast;
mod forwarding;
mod front;
mod grace;
mod half_closed;
mod hit;
mod hostile;
mod http;
mod http2;
mod listeners;
mod metrics;
mod near;
mod near_cluster;
mod no_vary_search;
mod normalise;
mod of_one_kind;
mod operators;
mod origins;
mod parts;
mod pass;
mod program;
mod purge;
mod purge_checker;
mod purge_clients;
mod purge_cluster;
mod purge_figures;
mod purge_refused;
#[path = "../django_live/python.rs"]
mod python;
mod query;
mod real_clients;
mod real_servers;
mod redis;
mod refresh;
mod refusals;
mod reload;
mod renewals;
mod request_id;
mod secrets;
mod semantics;
mod sentinels;
mod several;
mod several_under_load;
mod stores;
mod streaming;
mod support;
mod systemd;
mod tls;
mod tunnel;
mod unsendable;
mod upgrades;
mod vary;
