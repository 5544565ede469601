//! `report`: shows a run, as one HTML file without further files, or as the parts that docs/laboratory.md shows.

mod article;
mod chart;
mod charts;
mod page;
mod story;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use self::article::{HEADS, Row};
use self::chart::Frame;
use self::story::{facts, failures, load_loop};
use crate::args::ReportArgs;
use crate::run::{Run, RunError};

/// Writes or prints the report, and errors on standard error.
pub(crate) fn run(args: &ReportArgs) -> ExitCode {
    match show(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn show(args: &ReportArgs) -> Result<(), RunError> {
    let run = Run::read(&args.run)?;
    if let Some(chart) = &args.markdown {
        print!("{}", markdown(&run, chart));
    } else if args.svg {
        print!("{}", main_chart(&run));
    } else {
        let path = args.out.clone().unwrap_or_else(|| args.run.with_extension("html"));
        write(&run, &path)?;
        println!("The report is {}.", path.display());
    }
    Ok(())
}

/// Writes the HTML file.
pub(crate) fn write(run: &Run, path: &Path) -> Result<(), RunError> {
    let html = page::page(run).into_string();
    fs::write(path, html).map_err(|source| RunError::Write { path: path.to_owned(), source })
}

/// The article's table for a terminal.
pub(crate) fn text(run: &Run) -> String {
    let rows = article::rows(run);
    let rows: Vec<_> = std::iter::once(HEADS).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 | 1 => format!("{cell:<0$}", width(column)),
            _ => format!("{cell:>0$}", width(column)),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    let words = facts(run).into_iter().map(|fact| fact.words).chain(load_loop(run)).chain(failures(run));
    text + &words.map(|words| format!("\n{words}")).collect::<String>()
}

/// The table and chart of docs/laboratory.md.
fn markdown(run: &Run, chart: &str) -> String {
    let day = run.began.split('T').next().unwrap_or_default();
    let mut text = format!("Measured on {day} by `{}`: {}.\n\n", run.command, run.machine);
    text += &format!("| {} |\n|---|---|--:|--:|--:|--:|--:|\n", HEADS.join(" | "));
    for row in article::rows(run) {
        text += &format!("| {} |\n", row.cells().join(" | "));
    }
    text += &format!("\n![Response time as users are added]({chart})\n\n");
    text + &facts(run).iter().map(|fact| format!("* {}\n", fact.words)).collect::<String>()
}

/// The main chart as an SVG file; empty if the run has no figures for it.
fn main_chart(run: &Run) -> String {
    charts::ladder(run).map(|figure| figure.chart.file(Frame::WIDE)).unwrap_or_default()
}
