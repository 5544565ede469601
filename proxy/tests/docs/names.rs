//! Names in the source: texts that a function gives, and headers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pages::root;

/// The source of a file without its tests.
pub(crate) fn code(file: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(root().join(file)).unwrap();
    text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
}

/// The texts in quotes within an item of a file: from its first line to the line with the brace that ends it.
pub(crate) fn texts(file: &str, item: &str) -> Vec<String> {
    let code = code(file);
    let start = code.find(item).unwrap_or_else(|| panic!("{file} has no {item:?}"));
    let line = code[..start].rfind('\n').map_or(0, |at| at + 1);
    let indent: String = code[line..].chars().take_while(|&c| c == ' ').collect();
    let end = format!("\n{indent}}}\n");
    // Quotes within a text would end it.
    let body = code[start..].split(&end).next().unwrap().replace("\\\"", "");
    body.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a text is a name as `Cache-Status` has them.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// The sources of the proxy that handle requests on the data port.
fn on_the_data_port() -> Vec<PathBuf> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            match path.is_dir() {
                _ if ["admin", "forecast", "fuzzing", "init", "visitor", "warm"].contains(&name) => {}
                true => collect(&path, files),
                false => files.push(path),
            }
        }
    }
    let mut files = Vec::new();
    collect(&root().join("proxy/src"), &mut files);
    files
}

/// The headers that the code names by a constant: its own, and those of hyper.
pub(crate) fn headers() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for code in on_the_data_port().iter().map(code) {
        let own = code.split("HeaderName::from_static(").skip(1);
        names.extend(
            own.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).map(str::to_owned),
        );
        let imports = code.split("header::{").skip(1).filter_map(|rest| rest.split('}').next());
        let of_hyper =
            imports.flat_map(|names| names.split(',')).map(str::trim).filter(|name| is_constant(name));
        names.extend(of_hyper.map(|name| name.to_lowercase().replace('_', "-")));
    }
    names
}

fn is_constant(name: &str) -> bool {
    name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Whether a source that handles requests has this text in quotes.
pub(crate) fn is_written(text: &str) -> bool {
    on_the_data_port().iter().map(code).any(|code| code.contains(&format!("\"{text}\"")))
}
