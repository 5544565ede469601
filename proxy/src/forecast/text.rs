//! The forecast as a table for a terminal.

use std::fmt::{self, Display, Formatter};

use bytesize::ByteSize;

use super::outlook::{Gain, Group, Outlook};

impl Display for Outlook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.read())?;
        if self.is_lower_bound {
            writeln!(f, "There are more pages than the forecast remembers: a cache would do better.")?;
        }
        let rules = if self.proposed { "Proposed rules" } else { "Rules" };
        write_groups(
            f,
            &format!("\n{rules}, and the share of their requests that a cache answers"),
            &self.rules,
        )?;
        if !self.rules.is_empty() {
            self.write_gains(f)?;
        }
        write_groups(f, "\nThe paths that win most", &self.best_paths)?;
        if !self.personal_paths.is_empty() {
            writeln!(f, "\nPages that look personal, and stay with the origin")?;
            for path in &self.personal_paths {
                writeln!(f, "{:>12}  {}  ({})", thousands(path.requests), path.path, path.because)?;
            }
        }
        write!(f, "\n{}", self.advice())
    }
}

impl Outlook {
    /// How many requests and lines were read.
    pub(super) fn read(&self) -> String {
        let unread = match self.unread_lines {
            0 => String::new(),
            unread => format!(", {} that are none of an access log", thousands(unread)),
        };
        let period = match (self.first, self.last) {
            (Some(first), Some(last)) => format!(" from {first:.0} to {last:.0}"),
            _ => String::new(),
        };
        format!("{} requests in {} lines{unread}{period}", thousands(self.requests), thousands(self.lines))
    }

    /// The settings to begin with.
    pub(super) fn advice(&self) -> String {
        let rules: Vec<_> = self.rules.iter().map(|rule| format!("--cache '{}=60'", rule.path)).collect();
        match (self.proposed, rules.is_empty()) {
            (true, true) => "No path has enough hits to propose a rule for it.".to_owned(),
            (true, false) => format!("Try them: proxy {}", rules.join(" ")),
            (false, _) => {
                "Other timeouts: --timeout SECONDS. Without rules in the settings, some are proposed."
                    .to_owned()
            }
        }
    }

    fn write_gains(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nAll these rules together")?;
        writeln!(
            f,
            "{:>12}{:>12}{:>17}{:>16}{:>12}{:>12}",
            "timeout", "hit ratio", "fewer requests", "origin's time", "memory", "mean age"
        )?;
        self.gains().try_for_each(|gain| {
            let [timeout, ratio, hits, spared, memory, age] = gain.cells();
            writeln!(f, "{timeout:>12}{ratio:>12}{hits:>17}{spared:>16}{memory:>12}{age:>12}")
        })
    }

    /// The gains. If the rules have timeouts of their own, those come first.
    pub(super) fn gains(&self) -> impl Iterator<Item = &Gain> {
        self.as_set.iter().chain(&self.all)
    }
}

impl Gain {
    /// The cells: timeout, hit ratio, requests and seconds that the origin saves, memory, mean age.
    pub(super) fn cells(&self) -> [String; 6] {
        [
            self.timeout.map_or_else(|| "as set".to_owned(), duration),
            percent(self.hit_ratio),
            thousands(self.hits),
            format!("-{}", seconds(self.spared_seconds)),
            ByteSize(self.memory_bytes).display().si().to_string(),
            seconds(self.mean_age_seconds),
        ]
    }
}

fn write_groups(f: &mut Formatter<'_>, title: &str, groups: &[Group]) -> fmt::Result {
    let Some(first) = groups.first() else { return Ok(()) };
    writeln!(f, "{title}")?;
    write!(f, "{:>12}", "requests")?;
    for gain in &first.gains {
        write!(f, "{:>9}", gain.timeout.map(duration).unwrap_or_default())?;
    }
    writeln!(f)?;
    for group in groups {
        write!(f, "{:>12}", thousands(group.requests))?;
        for gain in &group.gains {
            write!(f, "{:>9}", percent(gain.hit_ratio))?;
        }
        writeln!(f, "  {}{}", group.path, group.own_timeout())?;
    }
    Ok(())
}

impl Group {
    /// The timeout of a rule that has one.
    pub(super) fn own_timeout(&self) -> String {
        self.timeout.map(|seconds| format!(", {seconds} s")).unwrap_or_default()
    }
}

pub(super) fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// A timeout in its largest whole unit.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        3600.. if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        60.. if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.1} s"),
        ..7200.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1, 60, 90, 300, 3600, 5400].map(duration),
            ["1 s", "1 min", "90 s", "5 min", "1 h", "90 min"]
        );
        assert_eq!([0.25, 150.0, 10_000.0].map(seconds), ["0.2 s", "2.5 min", "2.8 h"]);
        assert_eq!(percent(0.9876), "98.8 %");
    }

    #[test]
    fn a_forecast_without_a_rule_has_no_empty_table() {
        let outlook = Outlook {
            lines: 9,
            unread_lines: 0,
            requests: 9,
            first: None,
            last: None,
            is_lower_bound: false,
            proposed: true,
            rules: Vec::new(),
            as_set: None,
            all: Vec::new(),
            best_paths: Vec::new(),
            personal_paths: Vec::new(),
        };
        let text = "9 requests in 9 lines\n\nNo path has enough hits to propose a rule for it.";
        assert_eq!(outlook.to_string(), text);
    }
}
