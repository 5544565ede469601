//! Parses the text of each setting into its type, or says what is wrong with it. `address` does so for addresses.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use crate::key::Generation;
use crate::pickle::Compressor;
use crate::policy::{Authorization, Coalesce, SetCookie};
use crate::request::Coding;

/// One year. A longer time is probably given in milliseconds by mistake.
const MAX_SECONDS: u64 = 366 * 24 * 60 * 60;

/// The file of a Unix socket, or none.
pub(super) fn socket(text: &str) -> Result<Option<PathBuf>, String> {
    /// The longest path that fits into the address of a socket (unix(7)), with the suffix under which the file is made.
    const LONGEST: usize = 100;
    match text {
        "" => Ok(None),
        text if text.ends_with('/') => Err(format!("{text:?} is a folder: add the name of a file")),
        text if text.len() > LONGEST => {
            Err(format!("longer than the {LONGEST} bytes that a socket's name may have"))
        }
        text => Ok(Some(PathBuf::from(text))),
    }
}

/// The text of a file that holds a secret. A FIFO is refused: a reload would wait for its writer.
pub(super) fn secret(path: &str) -> Result<String, String> {
    /// No password or token is longer.
    const LONGEST: u64 = 64 << 10;
    let unreadable = |error| format!("{path} cannot be read: {error}");
    match fs::metadata(path).map_err(unreadable)? {
        file if !file.is_file() => Err(format!("{path} is no regular file")),
        file if file.len() > LONGEST => {
            Err(format!("{path} is longer than the {LONGEST} bytes that are read"))
        }
        _ => fs::read_to_string(path).map_err(unreadable),
    }
}

/// The scheme of keys: readable, or Django's.
pub(super) fn keys(text: &str) -> Result<Scheme, String> {
    match text {
        "path" => Ok(Scheme::Path),
        "django" => Ok(Scheme::Django),
        other => Err(format!("{other:?} is neither path nor django")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scheme {
    Path,
    Django,
}

pub(super) fn generation(text: &str) -> Result<Generation, String> {
    Generation::of(text)
        .ok_or_else(|| format!("{text:?} is not a release of Django like 5.2.19, from 3.0 on"))
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number like 1"))
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

pub(super) fn time_zone(text: &str) -> Result<Option<String>, String> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
    match is_name {
        true => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
        false => Err(format!("{text:?} is not a time zone like Europe/Berlin")),
    }
}

pub(super) fn script_name(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && !text.contains(['?', '#', ' ']);
    match text.is_empty() || is_path {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a path like /app")),
    }
}

pub(super) fn language(text: &str) -> Result<Option<String>, String> {
    let is_code = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_@".contains(&byte));
    match is_code {
        true => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
        false => Err(format!("{text:?} is not a language like en-us")),
    }
}

/// Codes separated by commas, in the order of the site's LANGUAGES.
pub(super) fn languages(text: &str) -> Result<Vec<String>, String> {
    let codes = members(text)?.into_iter();
    codes.map(|code| language(code).map(|code| code.unwrap_or_default().to_lowercase())).collect()
}

pub(super) fn compressor(text: &str) -> Result<Compressor, String> {
    match text {
        "none" => Ok(Compressor::None),
        "zlib" => Ok(Compressor::Zlib),
        "gzip" => Ok(Compressor::Gzip),
        "zstd" => Ok(Compressor::Zstd),
        "lz4" => Ok(Compressor::Lz4),
        "lzma" => Ok(Compressor::Lzma),
        other => Err(format!("{other:?} is not one of none, zlib, gzip, zstd, lz4, lzma")),
    }
}

/// Codings in which pages are stored, each once.
pub(super) fn codings(text: &str) -> Result<Vec<Coding>, String> {
    let mut codings = Vec::new();
    for name in members(text)? {
        match Coding::named(name) {
            None => return Err(format!("{name:?} is not one of zstd, br, gzip")),
            Some(coding) if codings.contains(&coding) => return Err(format!("{name:?} is there twice")),
            Some(coding) => codings.push(coding),
        }
    }
    Ok(codings)
}

/// The members of a list, separated by commas.
pub(super) fn members(text: &str) -> Result<Vec<&str>, String> {
    let members: Vec<_> = text.split(',').map(str::trim).collect();
    match members[..] {
        [""] => Ok(Vec::new()),
        _ if members.contains(&"") => Err(format!("{text:?} has an empty member: remove a comma")),
        _ => Ok(members),
    }
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    /// No machine has more memory, so a larger number is a mistake.
    const LARGEST: u64 = 1 << 50;
    match text.parse() {
        Ok(ByteSize(bytes)) if bytes <= LARGEST => Ok(bytes),
        Ok(_) => Err(format!("{text:?} is more than 1PiB")),
        Err(_) => Err(format!("{text:?} is not a size like 1MiB")),
    }
}

/// A size, or `off`.
pub(super) fn near(text: &str) -> Result<Option<u64>, String> {
    match text {
        "off" => Ok(None),
        text => size(text).map(|bytes| (bytes > 0).then_some(bytes)),
    }
}

/// The size of a buffer in memory.
pub(super) fn buffer(text: &str) -> Result<usize, String> {
    const LARGEST: u64 = 16 << 20;
    match size(text)? {
        0 => Err("must be more than 0".to_owned()),
        bytes if bytes > LARGEST => Err("more than 16MiB".to_owned()),
        bytes => usize::try_from(bytes).map_err(|_| format!("{text:?} is too much")),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match count_or_none(text)? {
        0 => Err("must be more than 0".to_owned()),
        count => Ok(count),
    }
}

pub(super) fn count_or_none(text: &str) -> Result<usize, String> {
    count_up_to(1_000_000_000, text)
}

/// The number of header lines of a request. hyper's map of headers holds no more.
pub(super) fn lines(text: &str) -> Result<usize, String> {
    match count_up_to(10_000, text)? {
        0 => Err("must be more than 0".to_owned()),
        count => Ok(count),
    }
}

fn count_up_to(most: usize, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count <= most => Ok(count),
        Ok(_) => Err(format!("{text:?} is more than {most}")),
        Err(_) => Err(format!("{text:?} is not a number like 100")),
    }
}

/// A duration; 0 means none.
pub(super) fn duration_if_any(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "0" | "0s" | "0ms" => Ok(None),
        text => duration(text).map(Some),
    }
}

/// `2s`, `50ms`, or a number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text));
    match parsed {
        Ok(duration) if duration.is_zero() => Err("must be more than 0".to_owned()),
        Ok(duration) if duration.as_secs() > MAX_SECONDS => Err("more than a year".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err(format!("{text:?} is not a time like 2s or 50ms")),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds <= MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        Ok(_) => Err("more than a year".to_owned()),
        Err(_) => match humantime::parse_duration(text) {
            Ok(duration) => Err(format!("{text:?} has a unit: write the seconds, {}", duration.as_secs())),
            Err(_) => Err(format!("{text:?} is not a number of seconds like 60")),
        },
    }
}

/// The seconds that a page is stored, or `off`.
pub(super) fn timeout(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        text => seconds(text).map(Some).map_err(|fault| format!("{fault}, or off")),
    }
}

/// A number that is not negative.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 0.0 => Ok(factor),
        _ => Err(format!("{text:?} is not a number like 1.0")),
    }
}

pub(super) fn key_prefix(text: &str) -> Result<String, String> {
    match text.chars().all(|c| !c.is_control() && c != ' ') {
        true => Ok(text.to_owned()),
        false => Err("has blanks or control characters".to_owned()),
    }
}

/// Whether the policy is HTTP's.
pub(super) fn is_http(text: &str) -> Result<bool, String> {
    match text {
        "django" => Ok(false),
        "http" => Ok(true),
        _ => Err(format!("{text:?} is neither django nor http")),
    }
}

pub(super) fn authorization(text: &str) -> Result<Authorization, String> {
    match text {
        "pass" => Ok(Authorization::Pass),
        "vary" => Ok(Authorization::Vary),
        other => Err(format!("{other:?} is neither pass nor vary")),
    }
}

/// Whether QUERY has pages, besides GET.
pub(super) fn methods(text: &str) -> Result<bool, String> {
    let methods = members(text)?;
    match methods.iter().find(|method| !["GET", "QUERY"].contains(method)) {
        Some(other) => {
            Err(format!("{other:?} is neither GET nor QUERY; a HEAD is answered from the page of a GET"))
        }
        None if !methods.contains(&"GET") => {
            Err("GET always has pages: write [\"GET\", \"QUERY\"]".to_owned())
        }
        None => Ok(methods.contains(&"QUERY")),
    }
}

pub(super) fn set_cookie(text: &str) -> Result<SetCookie, String> {
    match text {
        "pass" => Ok(SetCookie::Pass),
        "strip" => Ok(SetCookie::Strip),
        other => Err(format!("{other:?} is neither pass nor strip")),
    }
}

pub(super) fn coalesce(text: &str) -> Result<Coalesce, String> {
    match text {
        "process" => Ok(Coalesce::Process),
        "fleet" => Ok(Coalesce::Fleet),
        other => Err(format!("{other:?} is neither process nor fleet")),
    }
}
