//! Settings as they were given, before they have types.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A text and where it was given.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) place: String,
    pub(super) text: String,
}

/// The settings of one table of a file, by dotted name.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Where the table begins, for what is missing in it.
    start: String,
    given: BTreeMap<String, Setting>,
    /// Names that have a value no setting can have, and its type.
    wrong: Vec<(Setting, &'static str)>,
}

/// A configuration file, taken apart.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) settings: Table,
    pub(super) rules: Vec<Table>,
}

impl File {
    /// Takes TOML apart. What is no TOML is a fault with its line; the rest is read all the same.
    pub(super) fn parse(name: &str, text: &str, faults: &mut Vec<String>) -> Self {
        let place = |offset: usize| format!("{name}:{}", 1 + text[..offset].matches('\n').count());
        let (root, mut errors) = DeTable::parse_recoverable(text);
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        faults.extend(errors.iter().map(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            format!("{}: not TOML: {}", place(start), error.message())
        }));
        let mut file = Self::default();
        for (key, value) in root.get_ref() {
            match value.get_ref() {
                DeValue::Array(rules) if key.get_ref() == "cache_page" => {
                    file.rules.extend(rules.iter().map(|rule| Table::of(rule, &place)));
                }
                _ if errors.is_empty() => file.settings.add(key.get_ref(), key.span().start, value, &place),
                // After a broken line the parser's guesses would only be faults on top of the fault.
                _ => {}
            }
        }
        file
    }
}

impl Table {
    fn of(value: &Spanned<DeValue<'_>>, place: &impl Fn(usize) -> String) -> Self {
        let mut table = Self { start: place(value.span().start), ..Self::default() };
        if let DeValue::Table(inner) = value.get_ref() {
            inner.iter().for_each(|(key, value)| table.add(key.get_ref(), key.span().start, value, place));
        }
        table
    }

    fn add(&mut self, name: &str, at: usize, value: &Spanned<DeValue<'_>>, place: &impl Fn(usize) -> String) {
        let given = |text: String| Setting { place: place(at), text };
        let text = match value.get_ref() {
            DeValue::Table(inner) => {
                for (key, value) in inner {
                    self.add(&format!("{name}.{}", key.get_ref()), key.span().start, value, place);
                }
                return;
            }
            DeValue::Array(items) => items
                .iter()
                .map(|item| scalar(item.get_ref()))
                .collect::<Option<Vec<_>>>()
                .map(|items| items.join(",")),
            other => scalar(other),
        };
        match text {
            Some(text) => drop(self.given.insert(name.to_owned(), given(text))),
            None => self.wrong.push((given(name.to_owned()), value.get_ref().type_str())),
        }
    }
}

/// The text of a value that is one thing.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A table on its way into types, and what is wrong with it.
pub(super) struct Settings<'a> {
    table: Table,
    faults: &'a mut Vec<String>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(table: Table, faults: &'a mut Vec<String>) -> Self {
        Self { table, faults }
    }

    /// One setting: from its flag, else from the file, else the default. `None` if it is wrong, which is then noted.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        flag: Option<Setting>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let from_file = self
            .table
            .given
            .remove(name)
            .map(|given| Setting { place: format!("{}: {name}", given.place), ..given });
        let missing = || Setting { place: format!("{}: {name}", self.table.start), text: default.to_owned() };
        let given = flag.or(from_file).unwrap_or_else(missing);
        parse(&given.text).map_err(|fault| self.faults.push(format!("{}: {fault}", given.place))).ok()
    }

    /// All settings below a name, by the rest of theirs.
    pub(super) fn take_all(&mut self, below: &str) -> Vec<(String, Setting)> {
        let (taken, rest) =
            std::mem::take(&mut self.table.given).into_iter().partition(|(name, _)| name.starts_with(below));
        self.table.given = rest;
        let taken: BTreeMap<String, Setting> = taken;
        taken.into_iter().map(|(name, given)| (name[below.len()..].to_owned(), given)).collect()
    }

    /// Notes a fault between settings.
    pub(super) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// What nobody took is a fault.
    pub(super) fn finish(self) {
        let unknown = self.table.given.into_iter();
        self.faults.extend(unknown.map(|(name, given)| format!("{}: {name}: no such setting", given.place)));
        let wrong = self.table.wrong.into_iter();
        self.faults.extend(
            wrong.map(|(given, kind)| format!("{}: {}: cannot be of type {kind}", given.place, given.text)),
        );
    }
}
