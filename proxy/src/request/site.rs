//! The site: the one Host whose pages have keys without the Host.

use std::str::FromStr;

use super::question::is_host;

/// The host that clients are expected to ask for, with its port unless that is 80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site(String);

impl Site {
    /// The default site.
    pub fn localhost(port: u16) -> Self {
        Self(without_default_port(&format!("localhost:{port}")).to_owned())
    }

    /// The value of a `Host` header that names this site.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Site {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !is_host(text.as_bytes()) {
            return Err("not a host, or host:port");
        }
        Ok(Self(without_default_port(&text.to_ascii_lowercase()).to_owned()))
    }
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":80").unwrap_or(host)
}
