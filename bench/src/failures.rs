//! Failures, counted by kind.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;

use crate::load::{Failure, Sample};

/// The number of failed requests of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    asked: usize,
    kinds: BTreeMap<Failure, usize>,
}

impl Failures {
    pub(crate) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut failures = Self::default();
        for sample in samples {
            failures.count(sample);
        }
        failures
    }

    pub(crate) fn count(&mut self, sample: &Sample) {
        self.asked += 1;
        if let Some(kind) = sample.failure() {
            *self.kinds.entry(kind).or_default() += 1;
        }
    }

    /// The total.
    pub(crate) fn total(&self) -> usize {
        self.kinds.values().sum()
    }

    /// The counts, by the name of the kind.
    pub(crate) fn by_name(&self) -> BTreeMap<String, usize> {
        self.kinds.iter().map(|(kind, count)| (kind.to_string(), *count)).collect()
    }

    /// Prints the failures; with `fail_on_error`, the exit status reports them, too.
    pub(crate) fn verdict(&self, fail_on_error: bool) -> ExitCode {
        if self.total() > 0 {
            println!("  {self}");
        }
        if self.total() > 0 && fail_on_error { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl Display for Failures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed", self.total(), self.asked)?;
        let mut before = ": ";
        for (kind, count) in &self.kinds {
            write!(f, "{before}{count} x {kind}")?;
            before = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::StatusCode;

    use super::*;
    use crate::load::{Answer, Fault};

    #[test]
    fn failures_are_counted_by_kind() {
        let status = |status| Ok(Answer { status, cache: None, read: None });
        let outcomes = [
            status(StatusCode::OK),
            status(StatusCode::SERVICE_UNAVAILABLE),
            status(StatusCode::NOT_FOUND),
            Err(Fault::Deadline),
            status(StatusCode::SERVICE_UNAVAILABLE),
        ];
        let samples =
            outcomes.map(|outcome| Sample { crowd: 0, due: Duration::ZERO, took: Duration::ZERO, outcome });
        let failures = Failures::of(&samples);
        assert_eq!(failures.to_string(), "4 of 5 failed: 1 x status 404, 2 x status 503, 1 x timeout");
        assert_eq!(failures.total(), 4);
        assert_eq!(Failures::of(&samples[..1]).to_string(), "0 of 1 failed");
    }
}
