//! Settings as texts with their places, before they are parsed into types.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::leaves::Leaf;

/// The text of a setting, and the place where it was given.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) place: String,
    pub(super) text: String,
    /// The value as it is written, for operators.
    value: Value,
    /// `flag`, `environment`, `file:LINE` or `default`.
    from: String,
}

impl Setting {
    /// A setting whose text is not in a file.
    pub(super) fn of_text(place: String, text: &str, from: &str) -> Self {
        let value = match text.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        };
        Self { place, text: text.to_owned(), value, from: from.to_owned() }
    }
}

/// The settings of one table of a file, by dotted name.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Where the table begins. A missing setting has this place.
    start: String,
    given: BTreeMap<String, Setting>,
    /// Settings whose value has a type that no setting can have, with the name of that type.
    wrong: Vec<(Setting, &'static str)>,
}

/// A configuration file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) settings: Table,
    pub(super) rules: Vec<Table>,
    pub(super) origins: Vec<Table>,
    pub(super) listeners: Vec<Table>,
    pub(super) follows: Vec<Table>,
}

impl File {
    /// Parses TOML. A syntax error is a fault with its line; the rest of the file is still read.
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
                DeValue::Array(listeners) if key.get_ref() == "listen" && has_tables(listeners) => {
                    file.listeners.extend(listeners.iter().map(|listener| Table::of(listener, &place)));
                }
                DeValue::Array(origins) if key.get_ref() == "origin" && has_tables(origins) => {
                    file.origins.extend(origins.iter().map(|origin| Table::of(origin, &place)));
                }
                DeValue::Array(follows) if key.get_ref() == "follow" => {
                    file.follows.extend(follows.iter().map(|follow| Table::of(follow, &place)));
                }
                DeValue::Table(_) if key.get_ref() == "cache_page" => {
                    let place = place(key.span().start);
                    faults.push(format!("{place}: a rule is written [[cache_page]], with two brackets"));
                }
                DeValue::Table(_) if key.get_ref() == "follow" => {
                    let place = place(key.span().start);
                    faults.push(format!("{place}: a database is written [[follow]], with two brackets"));
                }
                _ if errors.is_empty() => file.settings.add(key.get_ref(), key.span().start, value, &place),
                // After a syntax error, the parser's guesses would only cause more faults.
                _ => {}
            }
        }
        file
    }
}

/// Whether a list is one of tables.
fn has_tables(items: &DeArray<'_>) -> bool {
    items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_)))
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
        let given = |text: String, value: Value| {
            let place = place(at);
            let from = format!("file:{}", place.rsplit(':').next().unwrap_or_default());
            Setting { place, text, value, from }
        };
        let text = match value.get_ref() {
            DeValue::Table(inner) => {
                for (key, value) in inner {
                    self.add(&format!("{name}.{}", key.get_ref()), key.span().start, value, place);
                }
                return;
            }
            // A list of tables: the number of each table is part of the names.
            DeValue::Array(items) if has_tables(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(&format!("{name}.{index}"), item.span().start, item, place);
                }
                return;
            }
            DeValue::Array(items) => {
                items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>().map(|items| {
                    (
                        items.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","),
                        items.into_iter().map(|(_, value)| value).collect(),
                    )
                })
            }
            other => scalar(other),
        };
        match text {
            Some((text, value)) => drop(self.given.insert(name.to_owned(), given(text, value))),
            None => self.wrong.push((given(name.to_owned(), Value::Null), value.get_ref().type_str())),
        }
    }
}

/// The text of a value that is neither an array nor a table, and the value itself.
fn scalar(value: &DeValue<'_>) -> Option<(String, Value)> {
    let (text, value) = match value {
        DeValue::String(text) => (text.to_string(), text.to_string().into()),
        // A number that is not decimal keeps its prefix, which no setting accepts.
        DeValue::Integer(number) => {
            (number.to_string(), number.as_str().parse::<u64>().map_or(Value::Null, Value::from))
        }
        DeValue::Float(number) => {
            (number.as_str().to_owned(), number.as_str().parse::<f64>().map_or(Value::Null, Value::from))
        }
        DeValue::Boolean(truth) => (truth.to_string(), (*truth).into()),
        _ => return None,
    };
    Some((text, value))
}

/// A table that is being parsed, and the faults found so far.
pub(super) struct Settings<'a> {
    table: Table,
    faults: &'a mut Vec<String>,
    /// The settings that were taken.
    taken: Vec<Leaf>,
    /// The array that the table stands in, and its place there.
    within: Option<(&'static str, usize)>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(table: Table, faults: &'a mut Vec<String>) -> Self {
        Self { table, faults, taken: Vec::new(), within: None }
    }

    /// A table of an array of tables.
    pub(super) fn of_array(self, array: &'static str, index: usize) -> Self {
        Self { within: Some((array, index)), ..self }
    }

    /// Parses one setting: from its flag, else from the file, else the default. `None` if there is a fault, which is
    /// then in the list.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        flag: Option<Setting>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given(name, flag, default);
        self.record(name, &given);
        self.parsed(&given, parse)
    }

    /// As [`take`](Self::take), for a setting that is a list, even if its text has one member or none.
    pub(super) fn take_list<T>(
        &mut self,
        name: &str,
        flag: Option<Setting>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given(name, flag, default);
        let members = given.text.split(',').map(str::trim).filter(|member| !member.is_empty());
        self.record(name, &Setting { value: members.collect(), ..given.clone() });
        self.parsed(&given, parse)
    }

    fn parsed<T>(&mut self, given: &Setting, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(&given.text).map_err(|fault| self.faults.push(format!("{}: {fault}", given.place))).ok()
    }

    fn given(&mut self, name: &str, flag: Option<Setting>, default: &str) -> Setting {
        let from_file = self
            .table
            .given
            .remove(name)
            .map(|given| Setting { place: format!("{}: {name}", given.place), ..given });
        let place = match self.table.start.as_str() {
            "" => name.to_owned(),
            start => format!("{start}: {name}"),
        };
        let missing = || Setting::of_text(place, default, "default");
        flag.or(from_file).unwrap_or_else(missing)
    }

    /// Notes the value in force, for operators.
    pub(super) fn record(&mut self, name: &str, given: &Setting) {
        let Setting { place, value, from, .. } = given.clone();
        self.taken.push(Leaf { table: self.within, name: name.to_owned(), value, from, place });
    }

    /// All settings whose names begin with `below`, without that prefix.
    pub(super) fn take_all(&mut self, below: &str) -> Vec<(String, Setting)> {
        let (taken, rest) =
            std::mem::take(&mut self.table.given).into_iter().partition(|(name, _)| name.starts_with(below));
        self.table.given = rest;
        let taken: BTreeMap<String, Setting> = taken;
        taken.into_iter().map(|(name, given)| (name[below.len()..].to_owned(), given)).collect()
    }

    /// Parses a table of an array of tables. Its faults and settings join those of this one.
    pub(super) fn within<T>(
        &mut self,
        array: &'static str,
        (index, table): (usize, Table),
        parse: impl FnOnce(Settings<'_>) -> Option<(T, Vec<Leaf>)>,
    ) -> Option<T> {
        let (parsed, taken) = parse(Settings::new(table, self.faults).of_array(array, index))?;
        self.taken.extend(taken);
        Some(parsed)
    }

    /// Adds a fault.
    pub(super) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Reports a setting as a fault, with this reason, if the file or a flag gives it.
    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        if let Some(given) = self.table.given.remove(name) {
            self.faults.push(format!("{}: {name}: {why}", given.place));
        }
    }

    /// Reports each setting that was not taken as a fault. Returns those that were taken.
    pub(super) fn finish(self) -> Vec<Leaf> {
        self.refuse_rest("no such setting; docs/settings.md lists them")
    }

    /// Reports each setting that was not taken as a fault, with this reason. Returns those that were taken.
    pub(super) fn refuse_rest(self, why: &str) -> Vec<Leaf> {
        let rest = self.table.given.into_iter();
        self.faults.extend(rest.map(|(name, given)| format!("{}: {name}: {why}", given.place)));
        let wrong = self.table.wrong.into_iter();
        self.faults.extend(
            wrong.map(|(given, kind)| format!("{}: {}: cannot be of type {kind}", given.place, given.text)),
        );
        self.taken
    }

    /// Where the table begins.
    pub(super) fn start(&self) -> &str {
        &self.table.start
    }
}
