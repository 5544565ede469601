//! One order: the authority validates a name, and issues a certificate for it.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use server::{ChallengeProof, IssuedCertificates};
use tokio::time::timeout;

use super::storage::Storage;
use super::{Acme, Challenge, Tokens, tokens};
use crate::store::Store;

/// How the state of an order is asked for.
const POLLS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(60));

/// The time for the whole order.
const PATIENCE: Duration = Duration::from_secs(180);

/// Why an order has brought no certificate.
#[derive(Debug)]
pub(super) struct FailedOrder {
    pub(super) reason: String,
    /// The pause that the authority has asked for.
    pub(super) asked_pause: Option<Duration>,
    /// Whether the authority does not know the account, or no longer knows it.
    pub(super) is_account_unknown: bool,
}

/// The answer to a challenge. Dropping it takes the answer back.
struct Proof<'a> {
    issued: &'a IssuedCertificates,
    tokens: &'a Tokens,
    kind: Challenge,
    name: String,
    token: String,
    /// The item by which other proxies answer, and its bytes.
    item: (String, Vec<u8>),
}

/// Orders a certificate. Returns PEM: the certificate, the certificates that sign it, and its key.
pub(super) async fn order<S: Store>(
    account: &Account,
    name: &str,
    acme: &Acme,
    storage: &Storage<S>,
) -> Result<String, FailedOrder> {
    let ordered = timeout(PATIENCE, ordered(account, name, acme, storage)).await;
    ordered.unwrap_or_else(|_| Err(FailedOrder::of(&"the order takes too long")))
}

async fn ordered<S: Store>(
    account: &Account,
    name: &str,
    acme: &Acme,
    storage: &Storage<S>,
) -> Result<String, FailedOrder> {
    let names = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let proofs = prove(&mut order, name, acme, storage).await?;
    let polled = order.poll_ready(&POLLS).await;
    for proof in proofs {
        // One that is left behind, since the order was given up, expires.
        storage.take_back(&proof.item.0).await;
    }
    match polled {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        Ok(_) => return Err(refusal(&mut order).await),
        // The error of the order may say less than those of its challenges.
        Err(error @ Error::Api(_)) => {
            let said = refusal(&mut order).await;
            return Err(FailedOrder {
                reason: format!("{}; {error}", said.reason),
                ..FailedOrder::from(error)
            });
        }
        Err(error) => return Err(error.into()),
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&POLLS).await?;
    Ok(format!("{key}{chain}"))
}

/// Answers the challenges of an order. The answers stand until they are dropped.
async fn prove<'a, S: Store>(
    order: &mut Order,
    name: &str,
    acme: &'a Acme,
    storage: &Storage<S>,
) -> Result<Vec<Proof<'a>>, FailedOrder> {
    let kind = match acme.challenge {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    };
    let mut proofs = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(FailedOrder::of(&format!("the authority does not offer {}", acme.challenge.name())));
        };
        let proof = Proof::give(&challenge, name, acme)?;
        let (item, bytes) = &proof.item;
        storage.give(item, bytes, PATIENCE).await.map_err(|error| FailedOrder::of(&error))?;
        proofs.push(proof);
        challenge.set_ready().await?;
    }
    Ok(proofs)
}

/// The reason of the authority for an order that it has refused.
async fn refusal(order: &mut Order) -> FailedOrder {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await {
            said.extend(state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()).map(text));
        }
    }
    match said.is_empty() {
        true => FailedOrder::of(&"the authority refuses the order"),
        false => FailedOrder::of(&said.join("; ")),
    }
}

fn text(problem: &Problem) -> String {
    problem.detail.clone().or_else(|| problem.r#type.clone()).unwrap_or_default()
}

impl<'a> Proof<'a> {
    /// Gives the authority the answer to a challenge.
    fn give(challenge: &ChallengeHandle<'_>, name: &str, acme: &'a Acme) -> Result<Self, FailedOrder> {
        let (answer, token) = (challenge.key_authorization(), challenge.token.clone());
        let item = match acme.challenge {
            Challenge::Http01 => {
                let answer = answer.as_str().to_owned();
                acme.tokens.insert(token.clone(), answer.clone());
                (tokens::item(&token), answer.into_bytes())
            }
            Challenge::TlsAlpn01 => {
                let pem = self_signed(name, answer.digest().as_ref())?.into_bytes();
                let proof = ChallengeProof::read(&pem).map_err(|error| FailedOrder::of(&error))?;
                acme.issued.prove(name, proof);
                (proof_item(name), pem)
            }
        };
        let (issued, tokens, kind) = (&*acme.issued, &acme.tokens, acme.challenge);
        Ok(Self { issued, tokens, kind, name: name.to_owned(), token, item })
    }
}

impl Drop for Proof<'_> {
    fn drop(&mut self) {
        match self.kind {
            Challenge::Http01 => self.tokens.remove(&self.token),
            Challenge::TlsAlpn01 => self.issued.end_proof(&self.name),
        }
    }
}

/// The item of the certificate that answers a challenge for a name.
pub(super) fn proof_item(name: &str) -> String {
    format!("{name}.proof")
}

/// The certificate that answers a challenge over TLS (RFC 8737 §3), and its key, in PEM.
fn self_signed(name: &str, digest: &[u8]) -> Result<String, FailedOrder> {
    let made = || {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
        let key = KeyPair::generate()?;
        Ok(params.self_signed(&key)?.pem() + &key.serialize_pem())
    };
    made().map_err(|error: rcgen::Error| FailedOrder::of(&error))
}

impl FailedOrder {
    pub(super) fn of(reason: &impl ToString) -> Self {
        Self { reason: reason.to_string(), asked_pause: None, is_account_unknown: false }
    }
}

impl From<Error> for FailedOrder {
    fn from(error: Error) -> Self {
        let asked_pause = match &error {
            Error::Timeout(Some(at)) => Some(at.saturating_duration_since(Instant::now())),
            _ => None,
        };
        let is_account_unknown = matches!(&error, Error::Api(problem)
            if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist"));
        Self { asked_pause, is_account_unknown, ..Self::of(&chain(&error)) }
    }
}

/// An error and its sources, in one text.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut error = error;
    while let Some(source) = error.source() {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        error = source;
    }
    text
}
