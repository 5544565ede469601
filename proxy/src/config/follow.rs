//! The databases to follow: `[[follow]]`.

use bb8_postgres::tokio_postgres;

use super::leaves::Leaf;
use super::parse;
use super::settings::{Settings, Table};
use crate::follow::{DatabaseTls, Follow, OnLoss, Trust};
use crate::tls::roots;

/// Parses all databases; `None` if there is a fault, which is then in the list.
pub(super) fn follows(tables: Vec<Table>, settings: &mut Settings<'_>) -> Option<Vec<Follow>> {
    let tables = tables.into_iter().enumerate();
    let parsed: Vec<_> = tables.map(|table| settings.within("follow", table, follow)).collect();
    parsed.into_iter().collect()
}

fn follow(mut settings: Settings<'_>) -> Option<(Follow, Vec<Leaf>)> {
    let database = settings.take("database", None, "", database);
    let ca_file = settings.take("ca_file", None, "", |text| Ok(text.to_owned()));
    let channel = settings.take("channel", None, "cachepage", channel);
    let on_loss = settings.take("on_loss", None, "60s", on_loss);
    let (database, mode) = database.unzip();
    let trust = mode.zip(ca_file).map(|(mode, ca_file)| trust(&mode, &ca_file).and_then(DatabaseTls::new));
    let place = settings.start().to_owned();
    let tls = trust.and_then(|tls| tls.map_err(|fault| settings.fault(format!("{place}: {fault}"))).ok());
    let leaves = settings.finish();
    Some((Follow { database: database?, tls: tls?, channel: channel?, on_loss: on_loss? }, leaves))
}

/// The certificates that a database may show. The mode means what it means for PostgreSQL's own clients.
fn trust(mode: &str, ca_file: &str) -> Result<Trust, String> {
    const PUBLIC: &str = "database: sslmode=verify-ca needs ca_file, since the authorities of the system sign \
                          certificates for everyone; or write sslmode=verify-full";
    const UNCHECKED: &str = "ca_file: the mode in the URL checks no certificate: write ?sslmode=verify-full";
    match (mode, ca_file) {
        ("verify-full", ca_file) => Ok(Trust::Named(roots(ca_file)?.roots)),
        ("verify-ca", "") => Err(PUBLIC.to_owned()),
        ("verify-ca" | "require", ca_file) if !ca_file.is_empty() => Ok(Trust::Signed(roots(ca_file)?.roots)),
        (_, "") => Ok(Trust::Any),
        _ => Err(UNCHECKED.to_owned()),
    }
}

/// The mode, and the URL without it: the library knows no mode that checks certificates.
fn with_mode(url: &str) -> Result<(String, String), String> {
    const MODES: &str = "its sslmode is none of disable, prefer, require, verify-ca and verify-full";
    let mut mode = "prefer";
    let Some((start, options)) = url.rsplit_once('?') else { return Ok((url.to_owned(), mode.to_owned())) };
    let mut read = Vec::new();
    for option in options.split('&') {
        mode = option.strip_prefix("sslmode=").unwrap_or(mode);
        read.push(match option.split_once('=') {
            Some(("sslmode", "verify-ca" | "verify-full")) => "sslmode=require",
            Some(("sslmode", other)) if !["disable", "prefer", "require"].contains(&other) => {
                return Err(MODES.to_owned());
            }
            Some(("sslrootcert", _)) => return Err("sslrootcert: write it below as ca_file".to_owned()),
            _ => option,
        });
    }
    Ok((format!("{start}?{}", read.join("&")), mode.to_owned()))
}

/// How to connect, and the mode of TLS.
///
/// The message repeats neither the URL nor the parser's error, because either may contain the password.
fn database(text: &str) -> Result<(tokio_postgres::Config, String), String> {
    const LIKE: &str = "postgres://user:password@127.0.0.1:5432/shop";
    let fault = || format!("not a URL like {LIKE} (in a password, write %2F for / and %40 for @)");
    if text.is_empty() {
        return Err(format!("missing: a URL like {LIKE}"));
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(fault());
    }
    let (url, mode) = with_mode(text)?;
    let mut config: tokio_postgres::Config = url.parse().map_err(|_| fault())?;
    if config.get_hosts().is_empty() {
        // TLS needs a name, so an address alone is also the name.
        for address in config.get_hostaddrs().to_vec() {
            config.host(address.to_string());
        }
    }
    if config.get_hosts().is_empty() {
        return Err("names no host".to_owned());
    }
    if config.get_application_name().is_none() {
        config.application_name("cachepage");
    }
    Ok((config, mode))
}

fn channel(text: &str) -> Result<String, String> {
    /// The longest name that PostgreSQL accepts.
    const LONGEST: usize = 63;
    match text.len() {
        0 => Err("empty".to_owned()),
        length if length > LONGEST => Err(format!("longer than the {LONGEST} bytes of a channel's name")),
        _ => Ok(text.to_owned()),
    }
}

fn on_loss(text: &str) -> Result<OnLoss, String> {
    match text {
        "ignore" => Ok(OnLoss::Ignore),
        text => parse::duration_if_any(text)
            .map(|time| OnLoss::Serve(time.unwrap_or_default()))
            .map_err(|fault| format!("{fault}, or ignore")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::File;
    use super::*;

    fn parsed(file: &str) -> Result<Vec<Follow>, Vec<String>> {
        let mut faults = Vec::new();
        let tables = File::parse("f", file, &mut faults).follows;
        let parsed = follows(tables, &mut Settings::new(Table::default(), &mut faults));
        if faults.is_empty() { Ok(parsed.unwrap()) } else { Err(faults) }
    }

    #[test]
    fn a_database_has_a_channel_and_a_time_on_loss() {
        let file = "[[follow]]\ndatabase = \"postgres://u:secret@h:5433/shop\"\n\
                    [[follow]]\ndatabase = \"postgresql://h/d\"\nchannel = \"Pages\"\non_loss = \"ignore\"\n\
                    [[follow]]\ndatabase = \"postgres://h/d\"\non_loss = \"0s\"\n";
        let follows = parsed(file).unwrap();
        let texts: Vec<_> = follows.iter().map(Follow::to_string).collect();
        assert_eq!(
            texts,
            ["h:5433/shop, channel cachepage", "h:5432/d, channel Pages", "h:5432/d, channel cachepage"]
        );
        let times: Vec<_> = follows.iter().map(|follow| follow.on_loss).collect();
        let serve = OnLoss::Serve;
        assert_eq!(times, [serve(Duration::from_secs(60)), OnLoss::Ignore, serve(Duration::ZERO)]);
        assert!(!format!("{follows:?}").contains("secret"));
    }

    #[test]
    fn faults_name_their_place_and_no_password() {
        for (settings, place) in [
            ("channel = \"c\"", "f:1: database: missing"),
            ("database = \"mysql://u:secret@h/d\"", "f:2: database: not a URL like"),
            ("database = \"postgres://u:secret@h:port/d\"", "f:2: database: not a URL like"),
            ("database = \"postgres://u:secret@/d\"", "f:2: database: names no host"),
            ("database = \"postgres://u:secret@h/d?sslmode=allow\"", "f:2: database: its sslmode is none of"),
            (
                "database = \"postgres://h/d?sslmode=verify-ca\"",
                "f:1: database: sslmode=verify-ca needs ca_file",
            ),
            (
                "database = \"postgres://h/d?sslrootcert=/ca.pem\"",
                "f:2: database: sslrootcert: write it below",
            ),
            (
                "database = \"postgres://h/d\"\nca_file = \"/ca.pem\"",
                "f:1: ca_file: the mode in the URL checks no",
            ),
            (
                "database = \"postgres://h/d?sslmode=verify-full\"\nca_file = \"/nowhere\"",
                "f:1: /nowhere cannot be read",
            ),
            ("database = \"postgres://h/d\"\nchannel = \"\"", "f:3: channel: empty"),
            ("database = \"postgres://h/d\"\non_loss = \"soon\"", "f:3: on_loss: \"soon\" is not a time"),
            ("database = \"postgres://h/d\"\ntable = \"t\"", "f:3: table: no such setting"),
        ] {
            let faults = parsed(&format!("[[follow]]\n{settings}\n")).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(place), "{faults:?}");
            assert!(!faults[0].contains("secret"), "{faults:?}");
        }
    }
}
