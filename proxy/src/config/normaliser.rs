//! The settings of a rule that normalise requests.

use super::parse::{codings, members, truth};
use super::settings::Settings;
use crate::request::{Coding, Names, Normaliser};

/// Reads the settings, and the codings in which pages are stored; `None` if there is a fault, which is then in the list.
pub(super) fn normaliser(settings: &mut Settings<'_>) -> Option<(Normaliser, Vec<Coding>)> {
    let ignore_query = settings.take_list("ignore_query", None, "", names);
    let sort_query = settings.take("sort_query", None, "false", truth);
    let ignore_cookies = settings.take_list("ignore_cookies", None, "", names);
    let best_encoding = settings.take("accept_encoding", None, "as-is", accept_encoding);
    let compress = settings.take_list("compress", None, "", codings);
    let (best_encoding, compress) = (best_encoding?, compress?);
    let best_of = match () {
        () if !best_encoding => Vec::new(),
        () if compress.is_empty() => Coding::ALL.to_vec(),
        // No page of the rule is stored in another coding.
        () => compress.clone(),
    };
    let normaliser = Normaliser {
        ignore_query: ignore_query?,
        sort_query: sort_query?,
        ignore_cookies: ignore_cookies?,
        best_of,
    };
    Some((normaliser, compress))
}

/// Names of parameters or cookies, each with or without `*` at its end.
fn names(text: &str) -> Result<Names, String> {
    let names = members(text)?;
    for name in &names {
        if name.strip_suffix('*').unwrap_or(name).contains('*') {
            return Err(format!("{name:?}: * may only stand at the end"));
        }
        if name.contains(['=', '&', ';', '?', ' ']) || name.contains(char::is_control) {
            return Err(format!("{name:?} is not a name like \"gclid\" or \"utm_*\""));
        }
    }
    Ok(Names::new(names))
}

fn accept_encoding(text: &str) -> Result<bool, String> {
    match text {
        "as-is" => Ok(false),
        "normalise" => Ok(true),
        other => Err(format!("{other:?} is neither as-is nor normalise")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::File;
    use super::*;

    fn parsed(rule: &str) -> Result<Normaliser, Vec<String>> {
        let mut faults = Vec::new();
        let mut file = File::parse("f", &format!("[[cache_page]]\n{rule}"), &mut faults);
        let mut settings = Settings::new(file.rules.remove(0), &mut faults);
        let read = normaliser(&mut settings);
        settings.finish();
        read.map(|(normaliser, _)| normaliser).filter(|_| faults.is_empty()).ok_or(faults)
    }

    #[test]
    fn nothing_is_normalised_by_default() {
        assert!(parsed("").unwrap().is_off());
        assert!(
            parsed("ignore_query = []\nsort_query = false\naccept_encoding = \"as-is\"\n").unwrap().is_off()
        );
    }

    #[test]
    fn all_settings_are_read() {
        let rule = "ignore_query = [\"utm_*\", \"gclid\"]\nsort_query = true\nignore_cookies = [\"_ga*\"]\n\
                    accept_encoding = \"normalise\"\n";
        let expected = Normaliser {
            ignore_query: Names::new(["utm_*", "gclid"]),
            sort_query: true,
            ignore_cookies: Names::new(["_ga*"]),
            best_of: Coding::ALL.to_vec(),
        };
        assert_eq!(parsed(rule), Ok(expected));
        // The origin is not asked for a coding that the proxy would not store.
        let best_of = parsed(&format!("{rule}compress = [\"gzip\"]\n")).unwrap().best_of;
        assert_eq!(best_of, [Coding::Gzip]);
    }

    #[test]
    fn each_fault_is_told_with_its_line() {
        let rule = "ignore_query = [\"a*b\"]\nsort_query = 1\nignore_cookies = [\"a=b\"]\naccept_encoding = \"gzip\"\n\
                    compress = [\"deflate\"]\n";
        let faults = parsed(rule).unwrap_err();
        let names = ["ignore_query", "sort_query", "ignore_cookies", "accept_encoding", "compress"];
        assert_eq!(faults.len(), names.len(), "{faults:?}");
        for (line, (fault, name)) in faults.iter().zip(names).enumerate() {
            assert!(fault.starts_with(&format!("f:{}: {name}: ", line + 2)), "{fault}");
        }
        for bad in ["[\"\"]", "[\"a b\"]", "[\"**\"]", "[\"?a\"]"] {
            assert!(parsed(&format!("ignore_query = {bad}\n")).is_err() || bad == "[\"\"]", "{bad}");
        }
    }
}
