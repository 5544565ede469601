//! `origin` and `[[origin]]`: the services behind the proxy.

use super::address;
use super::settings::{Setting, Settings, Table};
use crate::origin::{Origin, OriginUrl, bare_host};
use crate::tls::{TlsClient, TlsFiles};

/// The protocol that the proxy speaks to origins.
const PROTOCOL: &[u8] = b"http/1.1";

/// Reads the origin: that of the flag, else the one of the file, which has a line or a table for it.
pub(super) fn origin(
    flag: Option<Setting>,
    tables: Vec<Table>,
    settings: &mut Settings<'_>,
) -> Option<Origin> {
    if flag.is_some() || tables.is_empty() {
        return settings.take("origin", flag, "http://127.0.0.1:8001", |text| plain(address::origin(text)?));
    }
    let places: Vec<_> = tables.iter().skip(1).map(|table| table.start().to_owned()).collect();
    places.iter().for_each(|place| settings.fault(format!("{place}: a second origin is not supported yet")));
    let origins: Vec<_> = tables.into_iter().map(|table| settings.within(table, of_table)).collect();
    origins.into_iter().next().flatten()
}

/// An origin with nothing but its URL.
fn plain(url: OriginUrl) -> Result<Origin, String> {
    let tls = match &url {
        OriginUrl::Https(authority) => Some(client(bare_host(authority), TlsFiles::default())?),
        OriginUrl::Http(_) | OriginUrl::Unix(_) => None,
    };
    Ok(Origin { url, tls })
}

/// One `[[origin]]`.
fn of_table(mut settings: Settings<'_>) -> Option<Origin> {
    let url = settings.take("url", None, "", address::origin);
    let tls = match &url {
        Some(OriginUrl::Https(authority)) => tls(bare_host(authority), &mut settings)?,
        Some(OriginUrl::Http(_) | OriginUrl::Unix(_)) => None,
        // A fault already; what the URL would need is not known.
        None => return None,
    };
    settings.finish();
    Some(Origin { url: url?, tls })
}

/// Reads the settings of TLS. Their faults are known together only.
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
        let flag = flag.map(|text| Setting { place: "--origin".to_owned(), text: text.to_owned() });
        let mut settings = Settings::new(settings, &mut faults);
        match origin(flag, origins, &mut settings) {
            Some(origin) if faults.is_empty() => Ok(origin.to_string()),
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
    }

    #[test]
    fn faults_of_an_origin_have_their_places() {
        for (file, fault) in [
            ("origin = \"ftp://a\"", "f:1: origin: \"ftp://a\": not a URL like http"),
            ("\n[[origin]]\n", "f:2: url: \"\": not a URL like"),
            ("[[origin]]\nurl = \"http://a\"\nca_file = \"/a\"\n", "f:3: ca_file: "),
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
