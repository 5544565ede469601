//! The certificates of all names, and the time at which each is tried next.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use instant_acme::{Account, NewAccount};
use rand::random;
use server::NamedCertificate;
use tracing::{info, warn};

use super::order::{FailedOrder, order};
use super::storage::Storage;
use super::{Acme, schedule};

/// The file of the account.
const ACCOUNT: &str = "account.json";

/// The longest sleep: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// The certificates that are ordered and renewed.
#[derive(Debug)]
pub struct Renewals {
    acme: Acme,
    storage: Storage,
    names: Mutex<Vec<NameState>>,
}

/// The state of a name, for operators.
#[derive(Clone, Debug)]
pub(crate) struct NameState {
    pub(crate) name: String,
    /// When its certificate ends, if there is one.
    pub(crate) expires: Option<SystemTime>,
    pub(crate) next_try: SystemTime,
    /// Why the last try has failed, if it has.
    pub(crate) last_error: Option<String>,
    /// The failures in a row.
    failures: u32,
}

impl Renewals {
    /// Begins with these settings. Stored certificates are shown from now on.
    pub fn start(acme: Acme, now: SystemTime) -> Self {
        let storage = Storage::of(&acme.storage, &acme.directory.url);
        let names = acme.issued.names().map(|name| NameState::of(name, now)).collect();
        let renewals = Self { acme, storage, names: Mutex::new(names) };
        renewals.names().iter_mut().for_each(|state| renewals.take_stored(state));
        renewals
    }

    /// Tries each name that is due. Returns how long no other name is due.
    pub async fn step(&self, now: SystemTime) -> Duration {
        let due: Vec<_> = self.names().iter().filter(|state| state.next_try <= now).cloned().collect();
        for state in due {
            let tried = self.try_name(state, now).await;
            if let Some(state) = self.names().iter_mut().find(|state| state.name == tried.name) {
                *state = tried;
            }
        }
        let next = self.names().iter().map(|state| state.next_try).min();
        let sleep = next.and_then(|next| next.duration_since(now).ok()).unwrap_or_default();
        sleep.min(LONGEST_SLEEP)
    }

    /// The state of each name.
    pub(crate) fn states(&self) -> Vec<NameState> {
        self.names().clone()
    }

    fn names(&self) -> MutexGuard<'_, Vec<NameState>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the certificate that is stored for a name, if there is a good one.
    fn take_stored(&self, state: &mut NameState) {
        let read = self.storage.read(&file(&state.name)).map_err(|error| error.to_string());
        match read.and_then(|pem| pem.map(|pem| NamedCertificate::read(&state.name, &pem)).transpose()) {
            Ok(Some(certificate)) => self.show(state, certificate),
            Ok(None) => {}
            Err(error) => warn!(name = state.name, error, "stored certificate not taken"),
        }
    }

    fn show(&self, state: &mut NameState, certificate: NamedCertificate) {
        let validity = certificate.validity;
        *state = NameState::of(&state.name, schedule::renewal(validity, random()));
        state.expires = Some(validity.until);
        self.acme.issued.replace(&state.name, certificate);
    }

    async fn try_name(&self, mut state: NameState, now: SystemTime) -> NameState {
        // Failures of earlier tries do not count.
        self.acme.directory.take_asked_pause();
        match self.ordered(&state.name).await {
            Ok(certificate) => {
                self.show(&mut state, certificate);
                let expires = state.expires.map(|time| humantime::format_rfc3339_seconds(time).to_string());
                info!(name = state.name, expires, "certificate issued");
                // If the clock is far from that of the authority, a new certificate looks due at once. Without this pause each
                // step would order another.
                state.next_try = state.next_try.max(now + schedule::pause(1, None));
            }
            Err(failure) => {
                if failure.is_account_unknown {
                    self.storage.remove(ACCOUNT);
                }
                state.failures += 1;
                let pause = schedule::pause(
                    state.failures,
                    self.acme.directory.take_asked_pause().max(failure.asked_pause),
                );
                state.next_try = now + pause;
                let (name, error) = (&state.name, &failure.reason);
                warn!(name, error, next_try_seconds = pause.as_secs(), "no new certificate");
                state.last_error = Some(failure.reason);
            }
        }
        state
    }

    /// Orders a certificate, and stores it.
    async fn ordered(&self, name: &str) -> Result<NamedCertificate, FailedOrder> {
        let account = self.account().await?;
        let pem = order(&account, name, &self.acme).await?;
        let certificate =
            NamedCertificate::read(name, pem.as_bytes()).map_err(|error| FailedOrder::of(&error))?;
        if let Err(error) = self.storage.write(&file(name), pem.as_bytes()) {
            warn!(name, %error, "certificate not stored: a restart orders another one");
        }
        Ok(certificate)
    }

    /// The account at the authority; a new one if none is stored.
    async fn account(&self) -> Result<Account, FailedOrder> {
        let directory = &self.acme.directory;
        let builder = Account::builder_with_http(Box::new(directory.clone()));
        let stored = self.storage.read(ACCOUNT).map_err(|error| FailedOrder::of(&error))?;
        if let Some(stored) = stored {
            let credentials = serde_json::from_slice(&stored);
            let credentials = credentials.map_err(|error| FailedOrder::of(&format!("{ACCOUNT}: {error}")))?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        // Without a stored key, the account would be lost with the process, and each try would make another account.
        self.storage.check().map_err(|error| FailedOrder::of(&error))?;
        let contact: Vec<_> = self.acme.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, directory.url.to_string(), None).await?;
        let credentials = serde_json::to_vec(&credentials).map_err(|error| FailedOrder::of(&error))?;
        self.storage.write(ACCOUNT, &credentials).map_err(|error| FailedOrder::of(&error))?;
        Ok(account)
    }
}

impl NameState {
    fn of(name: &str, next_try: SystemTime) -> Self {
        Self { name: name.to_owned(), expires: None, next_try, last_error: None, failures: 0 }
    }
}

/// The file of the certificate of a name.
fn file(name: &str) -> String {
    format!("{name}.pem")
}
