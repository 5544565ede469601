//! One order: the authority validates a name, and issues a certificate for it.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use server::IssuedCertificates;
use tokio::time::timeout;

use super::{Acme, Challenge, Tokens};

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
}

/// Orders a certificate. Returns PEM: the certificate, the certificates that sign it, and its key.
pub(super) async fn order(account: &Account, name: &str, acme: &Acme) -> Result<String, FailedOrder> {
    let ordered = timeout(PATIENCE, ordered(account, name, acme)).await;
    ordered.unwrap_or_else(|_| Err(FailedOrder::of(&"the order takes too long")))
}

async fn ordered(account: &Account, name: &str, acme: &Acme) -> Result<String, FailedOrder> {
    let names = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let proofs = prove(&mut order, name, acme).await?;
    let polled = order.poll_ready(&POLLS).await;
    drop(proofs);
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
async fn prove<'a>(order: &mut Order, name: &str, acme: &'a Acme) -> Result<Vec<Proof<'a>>, FailedOrder> {
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
        proofs.push(Proof::give(&challenge, name, acme)?);
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
        let answer = challenge.key_authorization();
        let proof = Self {
            issued: &acme.issued,
            tokens: &acme.tokens,
            kind: acme.challenge,
            name: name.to_owned(),
            token: challenge.token.clone(),
        };
        match acme.challenge {
            Challenge::Http01 => acme.tokens.insert(challenge.token.clone(), answer.as_str().to_owned()),
            Challenge::TlsAlpn01 => {
                let (certificate, key) = self_signed(name, answer.digest().as_ref())?;
                let proven = acme.issued.prove(name, certificate.into(), key.into());
                proven.map_err(|error| FailedOrder::of(&error))?;
            }
        }
        Ok(proof)
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

/// The certificate that answers a challenge over TLS (RFC 8737 §3), and its key.
fn self_signed(name: &str, digest: &[u8]) -> Result<(rcgen::Certificate, KeyPair), FailedOrder> {
    let made = || {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?, key))
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
