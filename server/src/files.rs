//! How many files the process may have open: each connection is one, and the bound is the system's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::limits::{ClientLimits, FAREWELLS};
use crate::workers::cores;

/// The files that a process opens for itself: its port, its log, its signals, and for each worker its runtime and a store.
const OWN: usize = 32;
const OF_A_WORKER: usize = 8;

impl ClientLimits {
    /// Lowers the limit of connections to the files that the process may open. Leaves `beside` files for the connections that
    /// the server itself opens to answer clients. Asks the system for as many files as it grants.
    #[must_use]
    pub fn affordable(self, beside: usize) -> Self {
        let Some(files) = granted_files() else { return self };
        let connections = within(files, self.connections, beside);
        if connections < self.connections {
            let wanted = self.connections;
            warn!(
                files,
                wanted,
                connections,
                "no files for so many connections: ulimit -n, or LimitNOFILE, allows more"
            );
        }
        Self { connections, ..self }
    }
}

/// How many files may be open, if there is a bound. Many systems say 1,024 for the sake of old programs, and grant more on request.
pub fn granted_files() -> Option<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If the system does not grant the maximum that it named, the limit stays as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.map(|files| usize::try_from(files).unwrap_or(usize::MAX))
}

fn within(files: usize, connections: usize, beside: usize) -> usize {
    let files = files.saturating_sub(own());
    // Each connection of a client needs at most one further file at a time.
    connections.min(files - beside.min(files / 2)).max(1)
}

/// The files that are open without any client, and those for clients that are turned away.
fn own() -> usize {
    OWN + OF_A_WORKER * cores() + FAREWELLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_files_for_what_is_opened_to_answer_them() {
        let own = own();
        for (files, connections, beside, expected) in [
            (own + 11_000, 10_000, 1000, 10_000),
            (own + 10_000, 10_000, 1000, 9000),
            (own + 1000, 10_000, 1000, 500),
            (own + 1000, 10_000, 10, 990),
            (own + 1000, 100, 1000, 100),
            (own, 10_000, 1000, 1),
            (0, 10_000, 1000, 1),
        ] {
            assert_eq!(within(files, connections, beside), expected, "{files} {connections} {beside}");
        }
    }

    #[test]
    fn the_system_is_asked_for_as_many_files_as_it_grants() {
        let limits = ClientLimits { connections: usize::MAX, headers: 7, ..ClientLimits::default() };
        let affordable = limits.affordable(0);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let files = current.map_or(usize::MAX, |files| usize::try_from(files).unwrap());
        assert_eq!((affordable.connections, affordable.headers), (within(files, usize::MAX, 0), 7));
        let few = ClientLimits { connections: 1, ..limits };
        assert_eq!(few.affordable(usize::MAX).connections, 1);
    }
}
