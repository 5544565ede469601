//! A table of the report: for the page, for Markdown, and for a terminal.

use maud::{Markup, html};

/// A table with its title, and a sentence that says what it shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) note: String,
    pub(super) heads: Vec<&'static str>,
    /// How many columns hold words, which are aligned to the left. Numbers follow.
    pub(super) words: usize,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn html(&self) -> Markup {
        html! {
            section {
                h2 { (self.title) }
                div.scroll {
                    table {
                        thead { tr { @for (column, head) in self.heads.iter().enumerate() { th.word[column < self.words] { (head) } } } }
                        tbody {
                            @for row in &self.rows {
                                // On a phone each row is a card, and each cell shows its heading.
                                tr {
                                    @for (column, (head, cell)) in self.heads.iter().zip(row).enumerate() {
                                        td.word[column < self.words] data-head=(head) { (cell) }
                                    }
                                }
                            }
                        }
                    }
                }
                @if !self.note.is_empty() { p.note { (self.note) } }
            }
        }
    }

    /// The table in Markdown, without title and note.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
        let rule = (0..self.heads.len()).map(|column| if column < self.words { "---|" } else { "--:|" });
        let rows = self.rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
        format!("{}|{}\n{}", line(&self.heads), rule.collect::<String>(), rows.collect::<String>())
    }

    /// The table as text, without title and note.
    pub(super) fn text(&self) -> String {
        let heads = self.heads.iter().map(|head| (*head).to_owned()).collect();
        let rows: Vec<&Vec<String>> = std::iter::once(&heads).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                if column < self.words {
                    format!("{cell:<0$}", width(column))
                } else {
                    format!("{cell:>0$}", width(column))
                }
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_aligned_to_the_left_and_numbers_to_the_right() {
        let rows = [["a page", "7 ms"], ["b", "12 ms"]].map(|row| row.map(str::to_owned).to_vec());
        let table =
            Table { title: "", note: String::new(), heads: vec!["", "median"], words: 1, rows: rows.into() };
        assert_eq!(table.text(), "        median\na page    7 ms\nb        12 ms\n");
        let markdown = "|  | median |\n|---|--:|\n| a page | 7 ms |\n| b | 12 ms |\n";
        assert_eq!(table.markdown(), markdown);
    }
}
