//! `origin`, `[[origin]]` and `[origins]`: the services behind the proxy.

use hyper::Uri;

use super::leaves::Leaf;
use super::settings::{Setting, Settings, Table};
use super::{address, parse};
use crate::origin::{Ejection, Origin, OriginUrl, Origins, Probe, Share, bare_host};
use crate::pattern::Pattern;
use crate::policy::check_path;
use crate::request::is_host;
use crate::tls::{TlsClient, TlsFiles};

/// The protocol that the proxy speaks to origins.
const PROTOCOL: &[u8] = b"http/1.1";

/// Reads the origins: that of the flag, or else those of the file, which has either one line or tables.
pub(super) fn origins(
    flag: Option<Setting>,
    tables: Vec<Table>,
    settings: &mut Settings<'_>,
) -> Option<Origins> {
    let after = settings.take("origins.eject_after", None, "3", parse::count);
    let time = settings.take("origins.eject_for", None, "5s", parse::duration);
    let retry_budget = settings.take("origins.retry_budget", None, "0.2", part);
    let resolve_every = settings.take("origins.resolve_every", None, "5s", parse::duration);
    let probe = settings.take("origins.probe", None, "", target);
    let every = settings.take("origins.probe_interval", None, "2s", parse::duration);
    let all = match flag.is_some() || tables.is_empty() {
        true => settings
            .take("origin", flag, "http://127.0.0.1:8001", |text| plain(address::origin(text)?))
            .map(|origin| vec![origin]),
        false => {
            let origins: Vec<_> = tables
                .into_iter()
                .enumerate()
                .map(|table| settings.within("origin", table, of_table))
                .collect();
            origins.into_iter().collect()
        }
    };
    let (mut all, resolve_every) = (all?, resolve_every?);
    all.iter_mut().for_each(|origin| origin.resolve_every = resolve_every);
    let after = u32::try_from(after?).unwrap_or(u32::MAX);
    let (ejection, every) = (Ejection { after, time: time? }, every?);
    let probe = probe?.map(|target| Probe { target, every });
    Some(Origins { all, ejection, retry_budget: retry_budget?, probe })
}

/// A warning for each origin whose requests an earlier origin takes.
pub(super) fn hidden(origins: &Origins) -> impl Iterator<Item = String> {
    origins.all.iter().enumerate().filter_map(|(index, origin)| {
        let earlier = origins.all[..index].iter().find(|earlier| earlier.share.hides(&origin.share))?;
        Some(format!("origin: {origin} is never asked: {earlier} comes before it and takes all its requests"))
    })
}

/// An origin that has only a URL.
fn plain(url: OriginUrl) -> Result<Origin, String> {
    let tls = match &url {
        OriginUrl::Https(authority) => Some(client(bare_host(authority), TlsFiles::default())?),
        OriginUrl::Http(_) | OriginUrl::Unix(_) => None,
    };
    Ok(Origin::for_all(url, tls))
}

/// One `[[origin]]`.
fn of_table(mut settings: Settings<'_>) -> Option<(Origin, Vec<Leaf>)> {
    let url = settings.take("url", None, "", address::origin);
    let hosts = settings.take_list("hosts", None, "", hosts);
    let paths = settings.take_list("paths", None, "", paths);
    let weight = settings.take("weight", None, "1", weight);
    let is_backup = settings.take("backup", None, "false", parse::truth);
    let tls = match &url {
        Some(OriginUrl::Https(authority)) => tls(bare_host(authority), &mut settings),
        Some(OriginUrl::Http(_) | OriginUrl::Unix(_)) => Some(None),
        // The URL has a fault already, so it is not known which settings it needs.
        None => return None,
    };
    let leaves = settings.finish();
    let share = Share::new(hosts?, paths?);
    let origin = Origin { share, weight: weight?, is_backup: is_backup?, ..Origin::for_all(url?, tls?) };
    Some((origin, leaves))
}

/// Hosts without a port, or `*.` and a domain.
fn hosts(text: &str) -> Result<Vec<String>, String> {
    let host = |host: &str| {
        let name = host.strip_prefix("*.").unwrap_or(host);
        match is_host(name.as_bytes()) && (name.ends_with(']') || !name.contains(':')) {
            true => Ok(host.to_ascii_lowercase()),
            false => Err(format!("{host:?} is neither a host nor *. and a domain; a host has no port here")),
        }
    };
    parse::members(text)?.into_iter().map(host).collect()
}

/// Paths, exact or with a `*` at the end, as those of rules are.
fn paths(text: &str) -> Result<Vec<Pattern>, String> {
    let path = |path: &str| {
        let pattern = Pattern::of(path);
        let checked = check_path(&pattern).map(|()| pattern);
        checked.map_err(|fault| format!("{path:?} is not a path like /api/ or /api/*: {fault}"))
    };
    parse::members(text)?.into_iter().map(path).collect()
}

/// The target of probes, if there is one.
fn target(text: &str) -> Result<Option<Uri>, String> {
    match text {
        "" => Ok(None),
        text if text.starts_with('/') => {
            text.parse().map(Some).map_err(|error| format!("{text:?} is not a path: {error}"))
        }
        text => Err(format!("{text:?} is not a path like /healthz")),
    }
}

fn weight(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(weight @ 1..=1000) => Ok(weight),
        _ => Err(format!("{text:?} is not a number from 1 to 1000")),
    }
}

/// A number from 0 to 1.
fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err(format!("{text:?} is not a part from 0 to 1, such as 0.2")),
    }
}

/// Reads the settings of TLS. Their faults show only together.
fn tls(host: &str, settings: &mut Settings<'_>) -> Option<Option<TlsClient>> {
    let mut text = |name: &str| settings.take(name, None, "", |text| Ok(text.to_owned()));
    let (server, ca) = (text("server_name")?, text("ca_file")?);
    let (certificate, key) = (text("client_certificate")?, text("client_key")?);
    let files = TlsFiles { ca: &ca, certificate: &certificate, key: &key };
    let server = if server.is_empty() { host } else { &server };
    let place = settings.start().to_owned();
    client(server, files).map_err(|fault| settings.fault(format!("{place}: {fault}"))).ok().map(Some)
}

fn client(server: &str, files: TlsFiles<'_>) -> Result<TlsClient, String> {
    TlsClient::new(server, files, &[PROTOCOL])
}

#[cfg(test)]
mod tests {
    use super::super::settings::File;
    use super::*;

    /// The origin as text, or the faults.
    fn parsed(flag: &str, file: &str) -> Result<String, Vec<String>> {
        let mut faults = Vec::new();
        let File { settings, origins, .. } = File::parse("f", file, &mut faults);
        let flag = Some(flag).filter(|text| !text.is_empty());
        let flag = flag.map(|text| Setting::of_text("--origin".to_owned(), text, "flag"));
        let mut settings = Settings::new(settings, &mut faults);
        match super::origins(flag, origins, &mut settings) {
            Some(origins) if faults.is_empty() => Ok(origins.to_string()),
            _ => Err(faults),
        }
    }

    #[test]
    fn an_origin_is_a_line_a_table_or_a_flag() {
        assert_eq!(parsed("", "").unwrap(), "http://127.0.0.1:8001");
        assert_eq!(parsed("", "origin = \"unix:/run/a.sock\"").unwrap(), "unix:/run/a.sock");
        let table = "[[origin]]\nurl = \"http://a\"\n";
        assert_eq!(parsed("", table).unwrap(), "http://a");
        assert_eq!(parsed("http://b", table).unwrap(), "http://b");
        let several = "[[origin]]\nurl = \"http://a\"\nhosts = [\"*.a.example\"]\n[[origin]]\nurl = \"http://b\"\nweight = 2\n";
        assert_eq!(parsed("", several).unwrap(), "http://a, http://b");
    }

    #[test]
    fn faults_of_an_origin_have_their_places() {
        for (file, fault) in [
            ("origin = \"ftp://a\"", "f:1: origin: \"ftp://a\": not a URL like http"),
            ("\n[[origin]]\n", "f:2: url: \"\": not a URL like"),
            ("[[origin]]\nurl = \"http://a\"\nca_file = \"/a\"\n", "f:3: ca_file: "),
            ("[[origin]]\nurl = \"http://a\"\nhosts = [\"a:80\"]\n", "f:3: hosts: \"a:80\" is neither"),
            ("[[origin]]\nurl = \"http://a\"\npaths = [\"a\"]\n", "f:3: paths: \"a\" is not a path"),
            (
                "[[origin]]\nurl = \"http://a\"\npaths = [\"/a/../b\"]\n",
                "f:3: paths: \"/a/../b\" is not a path",
            ),
            ("[[origin]]\nurl = \"http://a\"\npaths = [\"/a*b\"]\n", "f:3: paths: \"/a*b\" is not a path"),
            ("[[origin]]\nurl = \"http://a\"\nweight = 0\n", "f:3: weight: "),
            ("[origins]\nretry_budget = 2\n", "f:2: origins.retry_budget: "),
            ("[[origin]]\nurl = \"https://a\"\nca_file = \"/no\"\n", "f:1: /no cannot be read: "),
            (
                "[[origin]]\nurl = \"https://a\"\nserver_name = \"a b\"\n",
                "f:1: \"a b\" is neither a name nor",
            ),
            (
                "[[origin]]\nurl = \"https://a\"\nclient_key = \"/no\"\n",
                "f:1: a certificate and a key belong",
            ),
            ("origin = \"http://a\"\n[[origin]]\nurl = \"http://b\"\n", "f:2: not TOML: duplicate key"),
        ] {
            let faults = parsed("", file).unwrap_err();
            assert!(faults.iter().any(|said| said.starts_with(fault)), "{faults:?}");
        }
    }
}
