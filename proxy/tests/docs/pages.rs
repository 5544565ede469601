//! The pages of the documentation, and what a page is made of.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The folders with pages.
const FOLDERS: [&str; 4] = ["", "docs", "contrib/django", "fuzz"];

/// The languages of blocks. Without one a block would be neither run nor known to be no command.
const LANGUAGES: [&str; 8] = ["console", "json", "python", "sh", "sql", "text", "toml", "yaml"];

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    /// From the root of the project.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A block of code.
#[derive(Debug)]
pub(crate) struct Block {
    /// Its page and line.
    pub(crate) place: String,
    pub(crate) language: String,
    /// Whether the page says that it cannot be run here.
    pub(crate) is_left_out: bool,
    pub(crate) text: String,
}

/// The root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All pages.
pub(crate) fn all() -> Vec<Page> {
    let files = FOLDERS.iter().flat_map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths.iter().map(|path| page(path.strip_prefix(root()).unwrap())).collect()
}

/// The page at a path from the root of the project.
pub(crate) fn page(path: impl AsRef<Path>) -> Page {
    let path = path.as_ref().to_owned();
    Page { text: fs::read_to_string(root().join(&path)).unwrap(), path }
}

impl Page {
    /// What the page is made of, each with its place in the text.
    pub(crate) fn events(&self) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    /// The page and the line of an offset.
    pub(crate) fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.path.display(), 1 + self.text[..offset].matches('\n').count())
    }

    /// All blocks of code.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_inside = false;
        for (event, range) in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let (language, rest) = info.split_once(' ').unwrap_or((&info, ""));
                    blocks.push(Block {
                        place: self.place(range.start),
                        language: language.to_owned(),
                        is_left_out: rest == "not-run",
                        text: String::new(),
                    });
                    is_inside = true;
                }
                Event::Text(text) if is_inside => blocks.last_mut().unwrap().text.push_str(&text),
                Event::End(TagEnd::CodeBlock) => is_inside = false,
                _ => {}
            }
        }
        blocks
    }

    /// The words in code style in the first cell of each row of the tables, from one heading to the next of its level.
    pub(crate) fn first_cells(&self, heading: &str) -> Vec<Vec<String>> {
        let section = self.section(heading);
        let mut rows = Vec::new();
        let mut cell = usize::MAX;
        for event in Parser::new_ext(section, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::TableRow) => {
                    rows.push(Vec::new());
                    cell = 0;
                }
                Event::End(TagEnd::TableCell) => cell = cell.saturating_add(1),
                Event::Code(code) if cell == 0 => rows.last_mut().unwrap().push(code.to_string()),
                _ => {}
            }
        }
        rows
    }

    /// A heading and the text below it, up to the next heading of its level or of a higher one.
    pub(crate) fn section(&self, heading: &str) -> &str {
        let level = |line: &str| line.bytes().take_while(|&byte| byte == b'#').count();
        let start = self.text.find(&format!("{heading}\n"));
        let start = start.unwrap_or_else(|| panic!("{} has no {heading:?}", self.path.display()));
        let (wanted, mut end, mut is_code) = (level(heading), start, false);
        for line in self.text[start..].split_inclusive('\n') {
            is_code ^= line.starts_with("```");
            if !is_code && end > start && (1..=wanted).contains(&level(line)) {
                break;
            }
            end += line.len();
        }
        &self.text[start..end]
    }
}

#[test]
fn each_block_names_its_language() {
    for block in all().iter().flat_map(Page::blocks) {
        let Block { place, language, .. } = &block;
        assert!(LANGUAGES.contains(&language.as_str()), "{place}: a block of {language:?}");
    }
}
