//! `fleet`: how a fleet grows with its proxies, nodes, pages and changes, and what breaks first.
//!
//! The model does not run anything. A `plan` describes a fleet, and its `rates` are the work that the fleet has to do.
//! `limits` compares this work, at the measured `costs`, with the means of the fleet. `survey` prints the tables. `measure`
//! runs small fleets on this machine, and compares their work with the rates of the model.

mod costs;
mod limits;
mod measure;
mod plan;
mod rates;
mod real;
mod survey;

use std::process::ExitCode;

use crate::args::FleetArgs;

/// Runs the command, and prints errors on standard error.
pub(crate) async fn run(args: &FleetArgs) -> ExitCode {
    if !args.measure {
        print!("{}", survey::survey(&args.plan(), &args.means()));
        return ExitCode::SUCCESS;
    }
    match measure::measure(args.proxies.unwrap_or(measure::MOST)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) use self::costs::Means;
pub(crate) use self::plan::Plan;

#[cfg(test)]
mod tests {
    use super::{Means, Plan};

    /// A small fleet for tests.
    pub(super) const SMALL: Plan = Plan {
        proxies: 3.0,
        nodes: 3.0,
        pages: 2000.0,
        requests: 1000.0,
        changes: 10.0,
        timeout: 60.0,
        near: 2000.0,
    };

    pub(super) const MEANS: Means = Means { cores: 2.0, origin: 1e4, memory: 8e9, page: 14e3 };
}
