//! One page for people from the rows of the benches: machine, tables, plots, and the rows as CSV beside it.

mod chart;
mod csv;
mod machine;
mod page;
mod rows;
mod sizing;
mod text;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use machine::Machine;
use rows::Rows;

/// What to read and where to write.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Files of rows, as the benches print them with --json.
    #[arg(required = true)]
    rows: Vec<PathBuf>,
    /// The page; CSV files are written beside it, one a bench.
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
}

/// Writes the page and the CSV files.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut groups = Rows::default();
    for file in &options.rows {
        let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        groups.read(&text).with_context(|| format!("{}", file.display()))?;
    }
    ensure!(!groups.is_empty(), "no rows: run a bench with --json and give its output");
    groups.add("sizing", sizing::rows(&groups));
    let page = page::page(&groups, &Machine::look());
    write(&options.out, &page)?;
    for group in groups.groups() {
        write(&options.out.with_file_name(format!("{}.csv", group.bench())), &csv::text(group))?;
    }
    print!("{}", text::tables(&groups));
    println!("{}", options.out.display());
    Ok(())
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{}", path.display()))
}
