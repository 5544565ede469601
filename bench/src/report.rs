//! `report`: shows a run, as one HTML file without further files, or as the parts that docs/laboratory.md shows.

mod article;
mod chart;
mod charts;
mod page;
mod story;
mod table;
mod tables;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use self::chart::Frame;
use self::story::{facts, failures};
use crate::args::ReportArgs;
use crate::run::{Run, RunError};

/// Writes or prints the report. Prints errors on standard error.
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

/// The tables and claims for a terminal.
pub(crate) fn text(run: &Run) -> String {
    let tables = [article::table(run), tables::limits(run), tables::freshness(run)];
    let tables = tables.into_iter().flatten();
    let tables = tables.map(|table| format!("{}\n\n{}\n", table.title, table.text()));
    let words = facts(run).into_iter().map(|fact| fact.words).chain(failures(run));
    tables.collect::<String>() + &words.collect::<Vec<_>>().join("\n")
}

/// The tables and the chart of docs/laboratory.md.
fn markdown(run: &Run, chart: &str) -> String {
    let day = run.began.split('T').next().unwrap_or_default();
    let mut text = format!("Measured on {day} by `{}`: {}.\n\n", run.command, run.machine);
    if let Some(table) = article::table(run) {
        text += &format!("{}\n\n{}", table.note, table.markdown());
    }
    text += &format!("\n![Response time as users are added]({chart})\n\n");
    text += &facts(run).iter().map(|fact| format!("* {}\n", fact.words)).collect::<String>();
    for table in [tables::limits(run), tables::freshness(run)].into_iter().flatten() {
        text += &format!("\n**{}.** {}\n\n{}", table.title, table.note, table.markdown());
    }
    text
}

/// The main chart as an SVG file; empty if the run has no figures for it.
fn main_chart(run: &Run) -> String {
    charts::ladder(run).map(|figure| figure.chart.file(Frame::WIDE)).unwrap_or_default()
}
