//! `[log]`: the access log.

use std::fmt;
use std::path::PathBuf;

use super::parse;
use super::settings::{Setting, Settings};

/// The settings of the access log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// Where it is written.
    pub access: LogTarget,
    /// How its lines are written.
    pub format: LogFormat,
    /// Whether the queries of target and Referer are left out.
    pub redact_query: bool,
    /// The share of the hits that have a line, from 0 to 1. Every other request has one.
    pub sample_hits: f64,
}

/// Where the access log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is appended to, or a FIFO.
    File(PathBuf),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Apache's combined line, then cache status and microseconds.
    Combined,
    /// A JSON object.
    Json,
}

/// Reads the section; `Some(None)` if the log is off.
pub(super) fn log(flag: Option<Setting>, settings: &mut Settings<'_>) -> Option<Option<LogSettings>> {
    let access = settings.take("log.access", flag, "off", target);
    let format = settings.take("log.format", None, "combined", format);
    let redact_query = settings.take("log.redact_query", None, "false", parse::truth);
    let sample_hits = settings.take("log.sample_hits", None, "1.0", share);
    let (access, format, redact_query, sample_hits) = (access?, format?, redact_query?, sample_hits?);
    Some(access.map(|access| LogSettings { access, format, redact_query, sample_hits }))
}

fn target(text: &str) -> Result<Option<LogTarget>, String> {
    match text {
        "off" => Ok(None),
        "stdout" => Ok(Some(LogTarget::Stdout)),
        "stderr" => Ok(Some(LogTarget::Stderr)),
        "" => Err("names no file: write off, stdout, stderr or a file".to_owned()),
        folder if folder.ends_with('/') => Err(format!("{folder:?} is a folder: add the name of a file")),
        file => Ok(Some(LogTarget::File(PathBuf::from(file)))),
    }
}

fn format(text: &str) -> Result<LogFormat, String> {
    match text {
        "combined" => Ok(LogFormat::Combined),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} is neither combined nor json")),
    }
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is not a number from 0 to 1, such as 0.1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::config::{Config, Faults};

    fn parse(flag: Option<&str>, file: &str) -> Result<Option<LogSettings>, Faults> {
        let args = Args { access_log: flag.map(str::to_owned), ..Args::default() };
        Config::parse(&args, Some(("cachepage.toml", file))).map(|config| config.access_log)
    }

    #[test]
    fn the_section_is_read_and_the_flag_wins() {
        assert_eq!(parse(None, "").unwrap(), None);
        let file = "[log]\naccess = \"stdout\"\nformat = \"json\"\nredact_query = true\nsample_hits = 0.25\n";
        let settings = LogSettings {
            access: LogTarget::Stdout,
            format: LogFormat::Json,
            redact_query: true,
            sample_hits: 0.25,
        };
        assert_eq!(parse(None, file).unwrap(), Some(settings.clone()));
        for (flag, access) in
            [("stderr", LogTarget::Stderr), ("/var/log/a.log", LogTarget::File("/var/log/a.log".into()))]
        {
            let expected = LogSettings { access, ..settings.clone() };
            assert_eq!(parse(Some(flag), file).unwrap(), Some(expected));
        }
        assert_eq!(parse(Some("off"), file).unwrap(), None);
    }

    #[test]
    fn faults_of_the_section_are_reported_with_their_lines() {
        for (setting, fault) in [
            ("access = \"\"", "access: names no file"),
            ("access = \"/var/log/\"", "access: \"/var/log/\" is a folder"),
            ("format = \"common\"", "format: \"common\" is neither"),
            ("redact_query = 1", "redact_query: \"1\" is neither true nor false"),
            ("sample_hits = 1.5", "sample_hits: \"1.5\" is not a number"),
            ("sample_hits = -1", "sample_hits: \"-1\" is not a number"),
            ("sample_hits = nan", "sample_hits: \"nan\" is not a number"),
        ] {
            let faults = parse(None, &format!("[log]\n{setting}\n")).unwrap_err().to_string();
            assert!(faults.starts_with(&format!("cachepage.toml:2: log.{fault}")), "{faults}");
        }
    }
}
