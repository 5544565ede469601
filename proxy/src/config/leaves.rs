//! The settings in force, each with its value and where it comes from, for operators.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// A setting that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaf {
    /// The array of tables that holds the setting, and the place of its table there.
    pub(super) table: Option<(&'static str, usize)>,
    /// The name of the setting, after the names of its sections, with dots between them.
    pub(super) name: String,
    pub(super) value: Value,
    /// `flag`, `environment`, `file:LINE` or `default`.
    pub(super) from: String,
    /// The place as faults name it.
    pub(super) place: String,
}

/// All settings of a proxy. It holds secrets; [`json`](Self::json) shows none.
#[derive(Clone, Debug, Default)]
pub struct Leaves(pub(super) Vec<Leaf>);

impl Leaves {
    /// The settings as they are nested in TOML, each leaf with `value` and `from`.
    pub fn json(&self) -> Value {
        let mut root = Map::new();
        for leaf in &self.0 {
            let shown = json!({ "value": without_secrets(&leaf.value), "from": leaf.from });
            let mut names = leaf.name.split('.');
            let last = names.next_back().unwrap_or_default();
            let Some(top) = top(&mut root, leaf.table) else { continue };
            let section = names.try_fold(top, |section, name| {
                section.entry(name).or_insert_with(|| json!({})).as_object_mut()
            });
            if let Some(section) = section {
                section.insert(last.to_owned(), shown);
            }
        }
        with_lists(Value::Object(root))
    }

    /// All settings except the certificates of listeners.
    pub(super) fn without_certificates(&self) -> Self {
        let is_other = |leaf: &&Leaf| {
            !leaf.name.starts_with("certificates.") || leaf.table.is_none_or(|(table, _)| table != "listen")
        };
        Self(self.0.iter().filter(is_other).cloned().collect())
    }

    /// The settings of these sections that differ from `before`, a line each, with their places.
    pub(super) fn changed_since(&self, before: &Self, names: &[&str]) -> Vec<String> {
        let is_named = |leaf: &&Leaf| {
            let top = leaf.table.map_or(leaf.name.as_str(), |(name, _)| name);
            names
                .iter()
                .any(|name| top == *name || top.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        };
        let has = |leaves: &Self, leaf: &Leaf| {
            leaves.0.iter().any(|other| {
                (other.table, &other.name, &other.value) == (leaf.table, &leaf.name, &leaf.value)
            })
        };
        let new = self.0.iter().filter(is_named).filter(|leaf| !has(before, leaf));
        let gone = before.0.iter().filter(is_named).filter(|leaf| {
            !self.0.iter().any(|other| (other.table, &other.name) == (leaf.table, &leaf.name))
        });
        new.chain(gone).map(|leaf| leaf.place.clone()).collect()
    }
}

/// A value in which the objects whose names are numbers are lists.
fn with_lists(value: Value) -> Value {
    match value {
        Value::Object(map) if !map.is_empty() && map.keys().all(|name| name.parse::<usize>().is_ok()) => {
            map.into_iter().map(|(_, value)| with_lists(value)).collect()
        }
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, with_lists(value))).collect(),
        Value::Array(items) => items.into_iter().map(with_lists).collect(),
        other => other,
    }
}

/// The object that holds the settings of a table.
fn top<'a>(
    root: &'a mut Map<String, Value>,
    table: Option<(&str, usize)>,
) -> Option<&'a mut Map<String, Value>> {
    let Some((name, index)) = table else { return Some(root) };
    let tables = root.entry(name).or_insert_with(|| json!([])).as_array_mut()?;
    if tables.len() <= index {
        tables.resize(index + 1, json!({}));
    }
    tables[index].as_object_mut()
}

/// A value without the passwords in it.
fn without_secrets(value: &Value) -> Value {
    match value {
        Value::String(text) => without_password(text).into(),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        other => other.clone(),
    }
}

/// A URL without its password: that of the user, and those in the query. In PostgreSQL's other notation everything from the
/// password on is left out.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return without_word(text) };
    let (address, query) = rest.split_once('?').unzip();
    let address = address.unwrap_or(rest);
    let shown = match address.rsplit_once('@') {
        Some((user, address)) if user.contains(':') => {
            format!("{}:***@{address}", user.split(':').next().unwrap_or_default())
        }
        _ => address.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(masked).collect::<Vec<_>>().join("&"));
    format!("{scheme}://{shown}{}", query.map(|query| format!("?{query}")).unwrap_or_default())
}

fn without_word(text: &str) -> String {
    let mut places = text.match_indices("password").map(|(at, _)| at);
    match places.find(|&at| at == 0 || text[..at].ends_with(char::is_whitespace)) {
        Some(at) => format!("{}password=***", &text[..at]),
        None => text.to_owned(),
    }
}

/// A parameter of a query; `***` in place of a password.
fn masked(parameter: &str) -> String {
    let name = parameter.split('=').next().unwrap_or_default();
    match percent_decode_str(name).decode_utf8_lossy().contains("pass") {
        true => format!("{name}=***"),
        false => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (text, shown) in [
            ("redis://cache:6379/1", "redis://cache:6379/1"),
            ("redis://user:s3cret@cache/1", "redis://user:***@cache/1"),
            ("redis://:s3@cret@cache", "redis://:***@cache"),
            ("redis-sentinel://:s3cret@s1:1,s2:2/main", "redis-sentinel://:***@s1:1,s2:2/main"),
            ("unix:///run/redis.sock?db=1&pass=s3cret", "unix:///run/redis.sock?db=1&pass=***"),
            ("postgres://user:s3cret@db/site", "postgres://user:***@db/site"),
            ("unix:///r.sock?pa%73s=s3cret&db=1&pass=s3cret", "unix:///r.sock?pa%73s=***&db=1&pass=***"),
            (
                "postgres://db/site?user=u&password=a&pass%77ord=S",
                "postgres://db/site?user=u&password=***&pass%77ord=***",
            ),
            ("redis://u:s3cret@h/1?pass=x@y", "redis://u:***@h/1?pass=***"),
            ("host=db password = 's3 cret' user=me", "host=db password=***"),
            ("/run/secrets/pass=word", "/run/secrets/pass=word"),
            ("mail@host:80", "mail@host:80"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }
}
