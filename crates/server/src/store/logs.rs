//! Log lines of jobs: numbered without gaps, and not without end.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, failed, now_ms, signed, unsigned};
use crate::{JobId, LogLine, Result};

/// Lines of one job that are kept.
pub(crate) const MAX_LINES: u64 = 20_000;
/// Lines of them that the agent may fill.
pub(crate) const MAX_AGENT_LINES: u64 = 5_000;
/// Bytes of one line; more is cut.
const MAX_LINE_LEN: usize = 4096;
/// The level of the agent's lines.
const AGENT: &str = "agent";

impl Store {
    /// Adds a line to a job's log. Once the log is full a last line says so, and nothing more is kept.
    pub(crate) fn append_log(&self, job: JobId, level: &str, text: &str) -> Result<()> {
        let mut connection = self.lock();
        append(&mut connection, job, level, text).map_err(failed("writing a log line"))
    }

    /// Lines with a number above `after`, at most `limit`.
    pub(crate) fn logs(&self, job: JobId, after: u64, limit: usize) -> Result<Vec<LogLine>> {
        let connection = self.lock();
        let mut select = connection
            .prepare_cached(
                "SELECT number, unix_ms, level, text FROM log WHERE job = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
            )
            .map_err(failed("reading a log"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        select
            .query_map(params![signed(job.0), signed(after), limit], |row| {
                Ok(LogLine {
                    number: unsigned(row.get(0)?),
                    unix_ms: unsigned(row.get(1)?),
                    level: row.get(2)?,
                    text: row.get(3)?,
                })
            })
            .and_then(Iterator::collect)
            .map_err(failed("reading a log"))
    }
}

fn append(
    connection: &mut Connection,
    job: JobId,
    level: &str,
    text: &str,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let counted = transaction
        .prepare_cached("SELECT log_lines, agent_log_lines FROM jobs WHERE id = ?1")?
        .query_row([signed(job.0)], |row| {
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)))
        })
        .optional()?;
    let Some((lines, agent_lines)) = counted else {
        return Ok(());
    };
    let from_agent = level == AGENT;
    if lines >= MAX_LINES || (from_agent && agent_lines >= MAX_AGENT_LINES) {
        return Ok(());
    }
    let full = |what: &str, count: u64| format!("{what} has {count} lines; no more are kept");
    let text = if lines + 1 == MAX_LINES {
        full("this log", MAX_LINES)
    } else if from_agent && agent_lines + 1 == MAX_AGENT_LINES {
        full("the agent's log", MAX_AGENT_LINES)
    } else {
        one_line(text)
    };
    transaction
        .prepare_cached(
            "INSERT INTO log (job, number, unix_ms, level, text) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            signed(job.0),
            signed(lines + 1),
            signed(now_ms()),
            level,
            text
        ])?;
    transaction
        .prepare_cached(
            "UPDATE jobs SET log_lines = log_lines + 1, agent_log_lines = agent_log_lines + ?2 WHERE id = ?1",
        )?
        .execute(params![signed(job.0), from_agent])?;
    transaction.commit()
}

/// The text without what would break a line or a terminal, cut to a bearable length.
fn one_line(text: &str) -> String {
    let mut end = text.len().min(MAX_LINE_LEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text[..end].trim_end().chars().map(clean).collect()
}
