//! The settings as the proxy understands them, for people and for scripts.

use std::fmt;

use serde::Serialize;

use super::Config;
use crate::key::Keys;

/// The settings that decide what is served from where, and what is probably a mistake in them. It holds no secret.
#[derive(Debug, Serialize)]
pub struct Summary {
    listen: String,
    origin: String,
    store: String,
    keys: &'static str,
    /// `None` is `localhost` and the listening port.
    site: Option<String>,
    /// The limit of the near cache in bytes; `None` if it is off.
    near: Option<u64>,
    /// `None` if the listener is off.
    admin: Option<String>,
    rules: Vec<RuleSummary>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RuleSummary {
    path: String,
    /// In seconds; `None` if the rule is off.
    timeout: Option<u64>,
    #[serde(skip)]
    text: String,
}

impl Summary {
    /// Of settings that have no fault.
    pub fn new(config: &Config) -> Self {
        let rule = |rule: &crate::policy::Rule| RuleSummary {
            path: rule.path.to_string(),
            timeout: (!rule.is_off).then_some(rule.timeout.as_secs()),
            text: rule.to_string(),
        };
        let listen: Vec<_> = config.listeners.iter().map(ToString::to_string).collect();
        Self {
            listen: listen.join(", "),
            origin: config.origins.to_string(),
            store: config.store.to_string(),
            keys: if matches!(config.keys, Keys::Path(_)) { "path" } else { "django" },
            site: config.site.as_ref().map(|site| site.as_str().to_owned()),
            near: config.near,
            admin: config.admin.as_ref().map(|admin| admin.listen.to_string()),
            rules: config.rules.iter().map(rule).collect(),
            warnings: config.warnings.clone(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or =
            |given: &Option<String>, otherwise: &str| given.clone().unwrap_or_else(|| otherwise.to_owned());
        let near = self.near.map(|bytes| format!("{bytes} bytes"));
        write!(f, "listen    {}\norigin    {}\nstore     {}", self.listen, self.origin, self.store)?;
        write!(f, "\nkeys      {}\nsite      {}", self.keys, or(&self.site, "localhost and the port"))?;
        write!(f, "\nnear      {}\nadmin     {}", or(&near, "off"), or(&self.admin, "off"))?;
        if self.rules.is_empty() {
            f.write_str("\nrule      none: every request passes through")?;
        }
        self.rules.iter().try_for_each(|rule| write!(f, "\nrule      {}", rule.text))?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning   {warning}"))
    }
}
