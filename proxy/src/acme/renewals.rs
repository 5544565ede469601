//! The certificates of all names, and the time at which each is tried next.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use instant_acme::{Account, NewAccount};
use rand::random;
use server::{ChallengeProof, FoundProof, NamedCertificate};
use tracing::{info, warn};

use super::order::{FailedOrder, order, proof_item};
use super::shared::SharedItems;
use super::storage::Storage;
use super::tries::Tries;
use super::{Acme, StoragePlace, schedule};
use crate::store::Store;

/// The item of the account.
const ACCOUNT: &str = "account.json";

/// The longest sleep: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// How often certificates of other proxies are looked for. What the store has lost is written again then.
const LOOK: Duration = Duration::from_secs(60);

/// The pause while another proxy orders, which takes some seconds.
const OTHERS_TURN: Duration = Duration::from_secs(2);

/// The certificates that are ordered and renewed.
#[derive(Debug)]
pub struct Renewals<S> {
    acme: Acme,
    storage: Storage<S>,
    names: Mutex<Vec<Name>>,
    /// The account as it is stored: a store may lose it.
    account: Mutex<Option<Vec<u8>>>,
}

/// A name, and what is stored for it.
#[derive(Clone, Debug)]
struct Name {
    state: NameState,
    /// The certificate that is shown, with its key.
    pem: Option<Vec<u8>>,
    /// The failures in a row.
    failures: u32,
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
}

impl<S: Store> Renewals<S> {
    /// Begins with these settings.
    pub fn new(acme: Acme, store: &S, now: SystemTime) -> Self {
        let names = acme.issued.names().map(|name| Name::of(name, now)).collect();
        if let StoragePlace::Store(items) = &acme.storage {
            let (items, store) = (items.clone(), store.clone());
            acme.issued.look_elsewhere(move |name| find_proof(items.clone(), store.clone(), name));
        }
        let storage = Storage::of(&acme, store);
        Self { acme, storage, names: Mutex::new(names), account: Mutex::default() }
    }

    /// Shows the certificates that are stored, unless they end sooner than those that are shown.
    pub async fn take_stored(&self, now: SystemTime) {
        let names = self.names().clone();
        for name in names {
            self.keep(self.with_stored(name, now).await);
        }
    }

    /// Tries each name that is due. Returns how long no other name is due.
    pub async fn step(&self, now: SystemTime) -> Duration {
        if self.storage.is_shared() {
            self.take_stored(now).await;
        }
        let due = self.due(now);
        if !due.is_empty() {
            match self.storage.in_turn(self.try_names(now)).await {
                Ok(Some(())) => {}
                Ok(None) => due.into_iter().for_each(|name| self.keep(name.after(now + OTHERS_TURN))),
                Err(error) => {
                    warn!(error, "no certificate is ordered: another proxy may do so, and cannot be asked");
                    let failed = due.into_iter().map(|name| name.failing(&error).after(now + LOOK));
                    failed.for_each(|name| self.keep(name));
                }
            }
        }
        let next = self.names().iter().map(|name| name.state.next_try).min();
        let sleep = next.and_then(|next| next.duration_since(now).ok()).unwrap_or_default();
        sleep.min(if self.storage.is_shared() { LOOK } else { LONGEST_SLEEP })
    }

    /// The state of each name.
    pub(crate) fn states(&self) -> Vec<NameState> {
        self.names().iter().map(|name| name.state.clone()).collect()
    }

    fn names(&self) -> MutexGuard<'_, Vec<Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self, now: SystemTime) -> Vec<Name> {
        self.names().iter().filter(|name| name.state.next_try <= now).cloned().collect()
    }

    fn keep(&self, name: Name) {
        if let Some(kept) = self.names().iter_mut().find(|kept| kept.state.name == name.state.name) {
            *kept = name;
        }
    }

    /// A name with its stored certificate, unless that ends sooner than the one that is shown. One that the store has lost is
    /// written again.
    async fn with_stored(&self, name: Name, now: SystemTime) -> Name {
        let item = item(&name.state.name);
        let read = match self.storage.read(&item).await {
            Ok(Some(pem)) => NamedCertificate::read(&name.state.name, &pem).map(|read| Some((pem, read))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match read {
            Ok(Some((pem, read))) if name.is_older_than(&pem, &read) => {
                let taken = self.show(&name.state.name, pem, read);
                if name.pem.is_some() { taken.not_before(now) } else { taken }
            }
            Ok(Some(_)) => name.read(),
            Ok(None) => {
                if let Some(pem) = &name.pem {
                    // If this fails, the next look tries again.
                    let _ = self.storage.write(&item, pem).await;
                }
                name.read()
            }
            Err(error) => {
                if name.state.last_error.as_ref() != Some(&error) {
                    warn!(name = name.state.name, error, "stored certificate not taken");
                }
                name.failing(&error)
            }
        }
    }

    fn show(&self, name: &str, pem: Vec<u8>, certificate: NamedCertificate) -> Name {
        let validity = certificate.validity;
        let mut shown = Name::of(name, schedule::renewal(validity, random()));
        (shown.state.expires, shown.pem) = (Some(validity.until), Some(pem));
        self.acme.issued.replace(name, certificate);
        shown
    }

    /// Tries the names that are due, also by what other proxies and the process before have left.
    async fn try_names(&self, now: SystemTime) {
        if self.storage.is_shared() {
            // Another proxy may have ordered them since the last look.
            self.take_stored(now).await;
        }
        for name in self.due(now) {
            let name = self.with_tries(name, now).await;
            let is_due = name.state.next_try <= now;
            self.keep(if is_due { self.try_name(name, now).await } else { name });
        }
    }

    /// A name with the failures that are stored.
    async fn with_tries(&self, mut name: Name, now: SystemTime) -> Name {
        let read = self.storage.read(&tries_item(&name.state.name)).await.ok().flatten();
        if let Some(tries) = read.and_then(|bytes| Tries::read(&bytes, self.acme.challenge)) {
            name.failures = tries.failures;
            name.state.next_try = tries.next_try(now);
            name.state.last_error = Some(tries.error);
        }
        name
    }

    async fn try_name(&self, mut name: Name, now: SystemTime) -> Name {
        // Failures of earlier tries do not count.
        self.acme.directory.take_asked_pause();
        match self.ordered(&name.state.name).await {
            Ok((pem, certificate)) => {
                self.storage.remove(&tries_item(&name.state.name)).await;
                let name = self.show(&name.state.name, pem, certificate);
                let expires =
                    name.state.expires.map(|time| humantime::format_rfc3339_seconds(time).to_string());
                info!(name = name.state.name, expires, "certificate issued");
                name.not_before(now)
            }
            Err(failure) => {
                if failure.is_account_unknown {
                    self.remember_account(None);
                    self.storage.remove(ACCOUNT).await;
                }
                name.failures += 1;
                let asked = self.acme.directory.take_asked_pause().max(failure.asked_pause);
                let pause = schedule::pause(name.failures, asked);
                let tries = Tries::new(name.failures, now + pause, self.acme.challenge, &failure.reason);
                // If this fails, a restart tries at once.
                let _ = self.storage.write(&tries_item(&name.state.name), &tries.write()).await;
                let (error, seconds) = (&failure.reason, pause.as_secs());
                warn!(name = name.state.name, error, next_try_seconds = seconds, "no new certificate");
                name.failing(&failure.reason).after(now + pause)
            }
        }
    }

    /// Orders a certificate, and stores it.
    async fn ordered(&self, name: &str) -> Result<(Vec<u8>, NamedCertificate), FailedOrder> {
        let account = self.account().await?;
        let pem = order(&account, name, &self.acme, &self.storage).await?.into_bytes();
        let certificate = NamedCertificate::read(name, &pem).map_err(|error| FailedOrder::of(&error))?;
        if let Err(error) = self.storage.write(&item(name), &pem).await {
            warn!(name, error, "certificate not stored: a restart orders another one");
        }
        Ok((pem, certificate))
    }

    /// The account at the authority; a new one if none is known.
    async fn account(&self) -> Result<Account, FailedOrder> {
        let directory = &self.acme.directory;
        let builder = Account::builder_with_http(Box::new(directory.clone()));
        let stored = self.storage.read(ACCOUNT).await.map_err(|error| FailedOrder::of(&error))?;
        if let Some(known) = stored.or_else(|| self.known_account()) {
            let credentials = serde_json::from_slice(&known);
            let credentials = credentials.map_err(|error| FailedOrder::of(&format!("{ACCOUNT}: {error}")))?;
            // Written again, since a store keeps nothing for ever.
            if self.storage.is_shared() {
                let _ = self.storage.write(ACCOUNT, &known).await;
            }
            self.remember_account(Some(known));
            return Ok(builder.from_credentials(credentials).await?);
        }
        // Without a stored key, the account would be lost with the process, and each try would make another account.
        self.storage.check().await.map_err(|error| FailedOrder::of(&error))?;
        let contact: Vec<_> = self.acme.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, directory.url.to_string(), None).await?;
        let credentials = serde_json::to_vec(&credentials).map_err(|error| FailedOrder::of(&error))?;
        self.storage.write(ACCOUNT, &credentials).await.map_err(|error| FailedOrder::of(&error))?;
        self.remember_account(Some(credentials));
        Ok(account)
    }

    fn known_account(&self) -> Option<Vec<u8>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_account(&self, account: Option<Vec<u8>>) {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = account;
    }
}

impl Name {
    fn of(name: &str, next_try: SystemTime) -> Self {
        let state = NameState { name: name.to_owned(), expires: None, next_try, last_error: None };
        Self { state, pem: None, failures: 0 }
    }

    /// Whether another certificate than the one that is shown is no worse.
    fn is_older_than(&self, pem: &[u8], other: &NamedCertificate) -> bool {
        let ends_no_sooner = self.state.expires.is_none_or(|shown| shown <= other.validity.until);
        ends_no_sooner && self.pem.as_deref() != Some(pem)
    }

    /// The same, tried next at this time.
    fn after(mut self, next_try: SystemTime) -> Self {
        self.state.next_try = next_try;
        self
    }

    /// The same, tried after a pause. If the clock is far from that of the authority, a new certificate looks due at once, and
    /// each step would order another.
    fn not_before(self, now: SystemTime) -> Self {
        let next_try = self.state.next_try.max(now + schedule::pause(1, None));
        self.after(next_try)
    }

    /// The same after its item was read: an error of the storage is over.
    fn read(mut self) -> Self {
        if self.failures == 0 {
            self.state.last_error = None;
        }
        self
    }

    /// The same with an error.
    fn failing(mut self, error: &str) -> Self {
        self.state.last_error = Some(error.to_owned());
        self
    }
}

/// The item of the certificate of a name, which is a file in a folder.
fn item(name: &str) -> String {
    format!("{name}.pem")
}

/// The item of the failures of a name.
fn tries_item(name: &str) -> String {
    format!("{name}.tries")
}

/// Finds the proof of a name that another proxy has given.
fn find_proof<S: Store>(items: SharedItems, store: S, name: String) -> FoundProof {
    Box::pin(async move {
        let pem = items.read(&store, &proof_item(&name)).await.ok()??;
        ChallengeProof::read(&pem).ok()
    })
}
