//! Parses the text of each setting into its type, or says what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bb8_redis::redis::IntoConnectionInfo as _;
use bytesize::ByteSize;
use ipnet::IpNet;

use super::StoreUrl;
use crate::key::Generation;
use crate::origin::Origin;
use crate::pickle::Compressor;
use crate::policy::{Authorization, Coalesce, Rule};
use crate::request::site::Site;

pub(super) const DEFAULT_STORE: &str = "redis://127.0.0.1:6379/1";

/// One year. A longer time is probably given in milliseconds by mistake.
const MAX_SECONDS: u64 = 366 * 24 * 60 * 60;

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address and port like 127.0.0.1:8000"))
}

pub(super) fn path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
}

pub(super) fn origin(text: &str) -> Result<Origin, String> {
    text.parse().map_err(|fault| format!("{text:?}: {fault}"))
}

/// The URL may hold a password and is not repeated.
pub(super) fn store(text: &str) -> Result<StoreUrl, String> {
    if text == "memory" {
        return Ok(StoreUrl::Memory);
    }
    match text.into_connection_info() {
        Ok(_) => Ok(StoreUrl::Redis(text.to_owned())),
        Err(_) => Err(format!("neither memory nor a Redis URL like {DEFAULT_STORE}")),
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
    text.parse().map_err(|_| format!("{text:?} is not a number"))
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
    match text.is_empty() || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} does not begin with /")),
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
    let codes = text.split(',').map(str::trim).filter(|code| !code.is_empty());
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

pub(super) fn site(text: &str) -> Result<Option<Site>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|fault| format!("{text:?} is {fault}")),
    }
}

/// Networks or single addresses, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let single = || item.parse::<IpAddr>().map(IpNet::from);
            item.parse()
                .or_else(|_| single())
                .map_err(|_| format!("{item:?} is not an address or a network like 10.0.0.0/8"))
        })
        .collect()
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    text.parse().map(|ByteSize(bytes)| bytes).map_err(|_| format!("{text:?} is not a size like 1MiB"))
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
    text.parse().map_err(|_| format!("{text:?} is not a number like 100"))
}

/// A duration, or 0 for none.
pub(super) fn duration_if_any(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "0" | "0s" => Ok(None),
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
        Err(_) => Err(format!("{text:?} is not a number of seconds")),
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

pub(super) fn authorization(text: &str) -> Result<Authorization, String> {
    match text {
        "pass" => Ok(Authorization::Pass),
        "vary" => Ok(Authorization::Vary),
        other => Err(format!("{other:?} is neither pass nor vary")),
    }
}

pub(super) fn coalesce(text: &str) -> Result<Coalesce, String> {
    match text {
        "process" => Ok(Coalesce::Process),
        "fleet" => Ok(Coalesce::Fleet),
        other => Err(format!("{other:?} is neither process nor fleet")),
    }
}

/// `PATH` or `PATH=SECONDS`; the path itself may contain `=`.
pub(super) fn cache_flag(text: &str) -> Result<Rule, String> {
    let (path, timeout) = match text.rsplit_once('=') {
        Some((path, number)) if !number.contains('/') => (path, seconds(number)?),
        _ => (text, Duration::from_secs(60)),
    };
    Rule::new(path, timeout.as_secs()).map_err(str::to_owned)
}
