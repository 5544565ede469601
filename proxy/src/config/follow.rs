//! The databases to follow: `[[follow]]`.

use bb8_postgres::tokio_postgres;
use bb8_postgres::tokio_postgres::config::SslMode;

use super::leaves::Leaf;
use super::parse;
use super::settings::{Settings, Table};
use crate::follow::{Follow, OnLoss};

/// Parses all databases; `None` if there is a fault, which is then in the list.
pub(super) fn follows(tables: Vec<Table>, settings: &mut Settings<'_>) -> Option<Vec<Follow>> {
    let tables = tables.into_iter().enumerate();
    let parsed: Vec<_> = tables.map(|table| settings.within("follow", table, follow)).collect();
    parsed.into_iter().collect()
}

fn follow(mut settings: Settings<'_>) -> Option<(Follow, Vec<Leaf>)> {
    let database = settings.take("database", None, "", database);
    let channel = settings.take("channel", None, "cachepage", channel);
    let on_loss = settings.take("on_loss", None, "60s", on_loss);
    let leaves = settings.finish();
    Some((Follow { database: database?, channel: channel?, on_loss: on_loss? }, leaves))
}

/// The message repeats neither the URL nor the parser's error, because either may contain the password.
fn database(text: &str) -> Result<tokio_postgres::Config, String> {
    const LIKE: &str = "postgres://user:password@127.0.0.1:5432/shop";
    let fault = || format!("not a URL like {LIKE} (in a password, write %2F for / and %40 for @)");
    if text.is_empty() {
        return Err(format!("missing: a URL like {LIKE}"));
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(fault());
    }
    let mut config: tokio_postgres::Config = text.parse().map_err(|_| fault())?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err("sslmode=require: the proxy follows databases without TLS only; use a tunnel, or a \
                    connection inside of the machine or its network"
            .to_owned());
    }
    if config.get_application_name().is_none() {
        config.application_name("cachepage");
    }
    Ok(config)
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
            ("database = \"postgres://u:secret@h/d?sslmode=require\"", "f:2: database: sslmode=require: "),
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
