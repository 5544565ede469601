//! `listen` and `[[listen]]`: where the proxy listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use server::{CertificateFiles, Certificates, ListenAddress, ListenSettings};

use super::address;
use super::leaves::Leaf;
use super::settings::{Setting, Settings, Table};
use crate::acme::Acme;

/// The most listeners. A takeover does not hand over more.
const MOST: usize = 64;

/// The word for certificates that an authority issues, in place of files.
const ACME: &str = "acme";

/// Reads the listeners: that of the flag and those of the file, which has either one line or tables.
pub(super) fn listeners(
    flag: Option<Setting>,
    tables: Vec<Table>,
    acme: &Option<Option<Acme>>,
    settings: &mut Settings<'_>,
) -> Option<Vec<ListenSettings>> {
    let mut listeners = Vec::new();
    if flag.is_some() || tables.is_empty() {
        listeners.push(settings.take("listen", flag, "127.0.0.1:8000", address::listener).map(Into::into));
    }
    listeners.extend(
        tables
            .into_iter()
            .enumerate()
            .map(|table| settings.within("listen", table, |settings| of_table(acme, settings))),
    );
    if listeners.len() > MOST {
        settings.fault(format!("listen: {} listeners are more than {MOST}", listeners.len()));
    }
    let listeners: Vec<ListenSettings> = listeners.into_iter().collect::<Option<_>>()?;
    for (index, listener) in listeners.iter().enumerate() {
        let is_taken = listeners[..index].iter().any(|other| other.address == listener.address);
        // Port 0 is a new port each time.
        if is_taken && listener.address.port() != Some(0) {
            settings.fault(format!("listen: {} is there twice", listener.address));
        }
    }
    Some(listeners)
}

/// One `[[listen]]`.
fn of_table(acme: &Option<Option<Acme>>, mut settings: Settings<'_>) -> Option<(ListenSettings, Vec<Leaf>)> {
    let address = settings.take("address", None, "", address::listener);
    let certificates = certificates(acme, &mut settings);
    let balancers = settings.take_list("proxy_protocol", None, "", address::networks);
    let (address, certificates, balancers) = (address?, certificates?, balancers?);
    if matches!(address, ListenAddress::Unix(_)) && (certificates.is_some() || !balancers.is_empty()) {
        settings.fault(format!(
            "{}: certificates and proxy_protocol need an address and port: the clients of a Unix socket are on this machine",
            settings.start()
        ));
        return None;
    }
    Some((ListenSettings { address, certificates, balancers }, settings.finish()))
}

/// A warning of each certificate that clients refuse at this time.
pub(super) fn flaws(listeners: &[ListenSettings], now: SystemTime) -> impl Iterator<Item = String> {
    let since = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(since).unwrap_or(i64::MAX);
    let certificates = listeners.iter().filter_map(|listener| listener.certificates.as_ref());
    certificates
        .flat_map(move |certificates| certificates.flaws(now))
        .map(|flaw| format!("listen: certificates: {flaw}: clients refuse it"))
}

/// The certificates; `Some(None)` if there are none.
fn certificates(
    acme: &Option<Option<Acme>>,
    settings: &mut Settings<'_>,
) -> Option<Option<Arc<Certificates>>> {
    let given = settings.take_all("certificates");
    if given.is_empty() {
        return Some(None);
    }
    let place = given[0].1.place.clone();
    let mut files = BTreeMap::<usize, BTreeMap<String, String>>::new();
    let mut are_issued = false;
    for (name, setting) in given {
        settings.record(&format!("certificates{name}"), &setting);
        let (index, name) = name.trim_start_matches('.').split_once('.').unwrap_or((&name[..0], &name));
        match setting.text.as_str() {
            ACME if !["cert", "key"].contains(&name) => are_issued = true,
            text => drop(
                files
                    .entry(index.parse().unwrap_or_default())
                    .or_default()
                    .insert(name.to_owned(), text.to_owned()),
            ),
        }
    }
    let files: Result<Vec<_>, String> = files.into_values().map(pair).collect();
    let issued = match (are_issued, acme) {
        (false, _) => None,
        (true, Some(Some(acme))) => Some(acme.issued.clone()),
        (true, Some(None)) => {
            settings.fault(format!("{place}: certificates: \"acme\" needs [acme] with domains"));
            return None;
        }
        // A fault in `[acme]` is reported there.
        (true, None) => return None,
    };
    match files.map_err(|fault| vec![fault]).and_then(Certificates::load) {
        Ok(certificates) => Some(Some(Arc::new(certificates.and(issued)))),
        Err(faults) => {
            faults.iter().for_each(|fault| settings.fault(format!("{place}: certificates: {fault}")));
            None
        }
    }
}

fn pair(mut given: BTreeMap<String, String>) -> Result<CertificateFiles, String> {
    let missing = || "each is written { cert = \"FILE\", key = \"FILE\" }, or \"acme\"".to_owned();
    let mut take = |name| given.remove(name).ok_or_else(missing);
    let files = CertificateFiles { cert: take("cert")?.into(), key: take("key")?.into() };
    if given.is_empty() { Ok(files) } else { Err(missing()) }
}
