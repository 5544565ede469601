//! `[acme]`: certificates that an authority issues.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Uri;
use hyper::http::uri::Scheme;
use rustls::pki_types::DnsName;
use server::{IssuedCertificates, ListenAddress, ListenSettings};

use super::StoreUrl;
use super::parse;
use super::settings::Settings;
use crate::acme::{Acme, Challenge, Directory, Seal, StoragePlace, Tokens};

/// The directory of Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A folder below the one that systemd makes for the service.
const STORAGE: &str = "/var/lib/cachepage/acme";

/// The storage that a fleet shares.
const STORE: &str = "store";

/// Reads the section; `Some(None)` if it names no domain.
pub(super) fn acme(settings: &mut Settings<'_>) -> Option<Option<Acme>> {
    let domains = settings.take_list("acme.domains", None, "", domains);
    let contact = settings.take_list("acme.contact", None, "", contact);
    let challenge = settings.take("acme.challenge", None, Challenge::TlsAlpn01.name(), challenge);
    let storage = settings.take("acme.storage", None, STORAGE, storage);
    let seal = settings.take("acme.secret_file", None, "", seal);
    let directory = settings.take("acme.directory", None, DIRECTORY, directory);
    let is_on = domains.as_ref().is_some_and(|names| !names.is_empty());
    // Reading the certificates that the system trusts takes time, and only a proxy with domains needs them.
    let tls = settings.take("acme.ca_file", None, "", |file| is_on.then(|| Directory::tls(file)).transpose());
    let (domains, contact, challenge, storage) = (domains?, contact?, challenge?, storage?);
    let (directory, tls, seal) = (directory?, tls?, seal?);
    let Some(tls) = tls else { return Some(None) };
    let directory = Directory::new(&directory, tls);
    let storage = place(storage, seal, &directory).map_err(|fault| settings.fault(fault)).ok()?;
    let issued = Arc::new(IssuedCertificates::of(domains));
    Some(Some(Acme { directory, contact, challenge, storage, issued, tokens: Tokens::default() }))
}

/// Where the state is kept. What lies in the store is sealed.
fn place(storage: PathBuf, seal: Option<Seal>, directory: &Directory) -> Result<StoragePlace, String> {
    match (storage == Path::new(STORE), seal) {
        (false, None) => Ok(StoragePlace::Folder(storage)),
        (true, Some(seal)) => Ok(StoragePlace::store(directory, seal)),
        (true, None) => {
            Err("acme.storage: \"store\" needs acme.secret_file, by which keys are encrypted there"
                .to_owned())
        }
        (false, Some(_)) => Err("acme.secret_file: a folder is not encrypted: remove it".to_owned()),
    }
}

/// Finds a store that no other proxy has.
pub(super) fn check_store(
    acme: &Option<Option<Acme>>,
    store: &Option<StoreUrl>,
    settings: &mut Settings<'_>,
) {
    if let (Some(Some(acme)), Some(StoreUrl::Memory)) = (acme, store)
        && matches!(acme.storage, StoragePlace::Store(_))
    {
        settings.fault("acme.storage: a store in memory ends with the proxy: name a folder".to_owned());
    }
}

/// Finds the faults of `[acme]` beside these listeners: an authority that no listener uses, and names that cannot be
/// validated.
pub(super) fn check_listeners(
    acme: &Option<Option<Acme>>,
    listeners: &Option<Vec<ListenSettings>>,
    settings: &mut Settings<'_>,
) {
    let (Some(Some(acme)), Some(listeners)) = (acme, listeners) else { return };
    let are_shown = |one: &ListenSettings| one.certificates.as_ref().is_some_and(|some| some.are_issued());
    if !listeners.iter().any(are_shown) {
        settings.fault("acme.domains: no [[listen]] has certificates = \"acme\"".to_owned());
    }
    let is_plain =
        |one: &ListenSettings| one.certificates.is_none() && matches!(one.address, ListenAddress::Tcp(_));
    if acme.challenge == Challenge::Http01 && !listeners.iter().any(is_plain) {
        settings.fault(
            "acme.challenge: http-01 needs a [[listen]] without certificates, which port 80 leads to"
                .to_owned(),
        );
    }
}

fn directory(text: &str) -> Result<String, String> {
    let url: Option<Uri> = text.parse().ok();
    match url.filter(|url| url.scheme() == Some(&Scheme::HTTPS) && url.host().is_some()) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?} does not begin with https://HOST")),
    }
}

fn domains(text: &str) -> Result<BTreeSet<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(domain).collect()
}

fn domain(text: &str) -> Result<String, String> {
    match text {
        _ if text.starts_with("*.") => {
            Err(format!("{text:?} needs a challenge by DNS, which the proxy cannot answer: name each host"))
        }
        _ if text.parse::<std::net::IpAddr>().is_ok() || DnsName::try_from(text).is_err() => {
            Err(format!("{text:?} is not a name like www.example.com"))
        }
        _ => Ok(text.trim_end_matches('.').to_ascii_lowercase()),
    }
}

/// Addresses of mail, which the protocol wants as URLs.
fn contact(text: &str) -> Result<Vec<String>, String> {
    let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
    addresses
        .map(|address| match address.strip_prefix("mailto:").unwrap_or(address) {
            address if address.contains('@') => Ok(format!("mailto:{address}")),
            address => Err(format!("{address:?} is not an address like ops@example.com")),
        })
        .collect()
}

fn challenge(text: &str) -> Result<Challenge, String> {
    let known = [Challenge::TlsAlpn01, Challenge::Http01].into_iter().find(|known| known.name() == text);
    known.ok_or_else(|| format!("{text:?} is neither tls-alpn-01 nor http-01"))
}

fn storage(text: &str) -> Result<PathBuf, String> {
    let folder = PathBuf::from(text);
    if text == STORE || folder.is_absolute() {
        Ok(folder)
    } else {
        Err(format!("{text:?} is neither \"store\" nor the path of a folder from / on"))
    }
}

/// The seal by the secret in a file.
fn seal(path: &str) -> Result<Option<Seal>, String> {
    /// As many as 128 bits have in hexadecimal.
    const LEAST: usize = 32;
    if path.is_empty() {
        return Ok(None);
    }
    let text = parse::secret(path)?;
    let secret = text.trim();
    if secret.len() < LEAST {
        return Err(format!(
            "{path} has fewer than {LEAST} characters: write what `openssl rand -hex 32` prints into it"
        ));
    }
    Seal::of(secret).map(Some).ok_or_else(|| format!("{path} holds no secret that a key can be made of"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Config;
    use crate::args::Args;

    fn faults(file: &str) -> String {
        let parsed = Config::parse(&Args::default(), Some(("f.toml", file)));
        parsed.err().map(|faults| faults.to_string()).unwrap_or_default()
    }

    const ISSUED: &str = "[[listen]]\naddress = \"127.0.0.1:443\"\ncertificates = \"acme\"\n";

    #[test]
    fn all_faults_have_their_places() {
        for (acme, said) in [
            (
                "domains = [\"*.a.example\"]",
                "f.toml:2: acme.domains: \"*.a.example\" needs a challenge by DNS",
            ),
            ("domains = [\"10.0.0.1\"]", "f.toml:2: acme.domains: \"10.0.0.1\" is not a name"),
            ("domains = [\"a_b!\"]", "f.toml:2: acme.domains: \"a_b!\" is not a name"),
            ("domains = [\"a\"]\ncontact = [\"ops\"]", "f.toml:3: acme.contact: \"ops\" is not an address"),
            ("domains = [\"a\"]\nchallenge = \"dns-01\"", "f.toml:3: acme.challenge: \"dns-01\" is neither"),
            ("domains = [\"a\"]\nstorage = \"acme\"", "f.toml:3: acme.storage: \"acme\" is neither"),
            ("domains = [\"a\"]\nstorage = \"store\"", "acme.storage: \"store\" needs acme.secret_file"),
            ("domains = [\"a\"]\nsecret_file = \"/no\"", "f.toml:3: acme.secret_file: /no cannot be read"),
            (
                "domains = [\"a\"]\nsecret_file = \"/dev/null\"",
                "f.toml:3: acme.secret_file: /dev/null is no regular file",
            ),
            (
                "domains = [\"a\"]\ndirectory = \"http://a/\"",
                "f.toml:3: acme.directory: \"http://a/\" does not begin",
            ),
            ("domains = [\"a\"]\nca_file = \"/no\"", "f.toml:3: acme.ca_file: /no cannot be read"),
            ("domains = []", "f.toml:5: certificates: \"acme\" needs [acme] with domains"),
            (
                "domains = [\"a\"]\nchallenge = \"http-01\"",
                "acme.challenge: http-01 needs a [[listen]] without",
            ),
        ] {
            let said_now = faults(&format!("[acme]\n{acme}\n{ISSUED}"));
            assert!(said_now.starts_with(said), "{said_now}");
            assert_eq!(said_now.lines().count(), 1, "{said_now}");
        }
        assert_eq!(
            faults("[acme]\ndomains = [\"a\"]\n"),
            "acme.domains: no [[listen]] has certificates = \"acme\""
        );
    }

    #[test]
    fn a_fleet_needs_a_secret_that_cannot_be_guessed_and_a_store_that_it_shares() {
        let secret = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let (good, short) = (secret(&"ab".repeat(32)), secret("letmein\n"));
        let file = |storage: &str, secret: &tempfile::NamedTempFile, store: &str| {
            format!(
                "store = \"{store}\"\n[acme]\ndomains = [\"a\"]\nstorage = \"{storage}\"\nsecret_file = {:?}\n{ISSUED}",
                secret.path()
            )
        };
        assert_eq!(faults(&file("store", &good, "redis://r")), "");
        for (storage, secret, store, said) in [
            ("store", &short, "redis://r", "has fewer than 32 characters"),
            ("store", &good, "memory", "acme.storage: a store in memory ends with the proxy"),
            ("/tmp", &good, "redis://r", "acme.secret_file: a folder is not encrypted"),
        ] {
            let said_now = faults(&file(storage, secret, store));
            assert!(said_now.contains(said) && said_now.lines().count() == 1, "{said_now}");
        }
    }

    #[test]
    fn names_have_one_form_and_stand_beside_files() {
        let listen = ISSUED.replace("\"acme\"", "[\"acme\", { cert = \"/no/cert\", key = \"/no/key\" }]");
        let said = faults(&format!("[acme]\ndomains = [\"a\"]\n{listen}"));
        assert!(said.contains("certificates: /no/cert cannot be read"), "{said}");
        let text =
            format!("[acme]\ndomains = [\"WWW.Example\", \"a.example\"]\ncontact = [\"o@e\"]\n{ISSUED}");
        let config = Config::parse(&Args::default(), Some(("f.toml", &text))).unwrap();
        let acme = config.acme.unwrap();
        assert_eq!(acme.issued.names().collect::<Vec<_>>(), ["a.example", "www.example"]);
        assert_eq!(acme.contact, ["mailto:o@e"]);
    }
}
