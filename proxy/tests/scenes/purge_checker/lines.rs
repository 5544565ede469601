//! The lines from a proxy to all servers of its store.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rand::RngExt as _;

use super::line::Line;
use crate::backend::Backend;

/// A line to each server. What servers say of each other's addresses leads to the lines again.
pub(super) struct Lines {
    lines: Vec<Line>,
    /// The URL of the store at the other end.
    pub(super) url: String,
}

impl Lines {
    pub(super) async fn to(store: &mut Backend) -> Self {
        let names = Names::default();
        let (mut lines, mut ports) = (Vec::new(), HashMap::new());
        for port in store.ports() {
            let line = Line::naming(port, names.clone()).await;
            ports.insert(text(port), text(line.port()));
            lines.push(line);
        }
        names.0.set(ports).expect("they are set once");
        let mut url = store.url().into_bytes();
        names.rename(&mut url);
        Self { lines, url: String::from_utf8(url).unwrap() }
    }

    /// The line to the server at this port.
    pub(super) fn to_port(&self, port: u16) -> &Line {
        self.lines.iter().find(|line| line.leads_to(port)).expect("each server has a line")
    }

    /// Lets nothing pass on any of them until they are let go.
    pub(super) fn hold(&self) {
        self.lines.iter().for_each(|line| line.hold(u64::MAX));
    }

    /// Lets nothing pass on some connections, or on all to one server.
    pub(super) fn hold_some(&self) {
        match rand::rng().random() {
            true => self.lines.iter().for_each(|line| line.hold(rand::rng().random())),
            false => self.lines[rand::rng().random_range(0..self.lines.len())].hold(u64::MAX),
        }
    }

    pub(super) fn let_go(&self) {
        self.lines.iter().for_each(|line| line.hold(0));
    }

    /// Cuts all connections. New ones go to this port.
    pub(super) fn lead_to(&self, port: u16) {
        self.lines.iter().for_each(|line| line.lead_to(port));
    }
}

/// The ports of servers, and those of the lines to them, as text of the same length.
#[derive(Clone, Default)]
pub(super) struct Names(Arc<OnceLock<HashMap<Port, Port>>>);

type Port = [u8; 5];

impl Names {
    /// Replaces the ports of servers by those of the lines. One whose text has not come whole stays, which is rare.
    pub(super) fn rename(&self, bytes: &mut [u8]) {
        let Some(ports) = self.0.get() else { return };
        for end in size_of::<Port>() + 1..=bytes.len() {
            let (before, port) = bytes[..end].split_last_chunk_mut::<5>().unwrap();
            if let [.., b':' | b'\n'] = before
                && let Some(name) = ports.get(port)
            {
                *port = *name;
            }
        }
    }
}

fn text(port: u16) -> Port {
    port.to_string().into_bytes().try_into().expect("free ports have five digits")
}
