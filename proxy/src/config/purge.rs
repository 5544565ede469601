//! `[purge]`: the right to purge on the data port.

use ipnet::IpNet;

use super::Token;
use super::settings::Settings;
use super::{address, admin, parse};

/// The settings of purges.
#[derive(Clone, Debug, Default)]
pub struct PurgeSettings {
    /// The networks whose clients may purge.
    pub allow: Vec<IpNet>,
    /// The token that clients outside of these networks must send.
    pub token: Option<Token>,
    /// How many replicas of Redis must have a purge before it is acknowledged.
    pub replicas: u32,
    /// Whether a URL without a query stands for every query of its path.
    pub queries: bool,
}

pub(super) fn purge(settings: &mut Settings<'_>) -> Option<PurgeSettings> {
    let allow = settings.take_list("purge.allow", None, "", address::networks);
    let token = settings.take("purge.token_file", None, "", admin::token);
    let replicas = settings.take("purge.replicas", None, "0", parse::number);
    let queries = settings.take("purge.queries", None, "true", parse::truth);
    Some(PurgeSettings { allow: allow?, token: token?, replicas: replicas?, queries: queries? })
}

impl PurgeSettings {
    /// Whether anybody may purge on the data port.
    pub fn are_on(&self) -> bool {
        !self.allow.is_empty() || self.token.is_some()
    }
}
