//! What the commands that talk to a server print: tables for people, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use server::web::humane::clean;

/// Prints data. False when the reader has seen enough (`| head`).
pub(crate) fn print(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("writing to the standard output"),
    }
}

/// Says something that is no data.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a value as indented JSON.
pub(crate) fn print_json(value: &Value) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

/// A document of the server.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).context("understanding the server's answer (is it another version?)")
}

/// Documents of the server as one list.
pub(crate) fn list(documents: &[String]) -> Result<Value> {
    let values = documents.iter().map(|json| read(json));
    Ok(Value::Array(values.collect::<Result<_>>()?))
}

/// Columns under their titles, two blanks apart; cells come from machines and are cleaned.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain(titles.get(column).map(|title| title.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            // Writing to a String does not fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut titles.iter().copied());
    for row in &rows {
        line(&mut row.iter().map(AsRef::as_ref));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [["1", "wéb\x1b[2J", ""], ["22", "x", "end"]].map(|row| row.map(Into::into).into());
        assert_eq!(
            table(&["ID", "N", "T"], &rows),
            "ID  N        T\n1   wéb\u{fffd}[2J\n22  x        end\n"
        );
    }
}
