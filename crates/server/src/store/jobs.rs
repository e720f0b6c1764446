//! Jobs. The small columns are a [`JobRow`], written whole; the documents beside them are written one at a time.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, failed, now_ms, signed, unsigned};
use crate::{DiskView, JobId, JobState, Progress, ProofRange, Result};

/// What a list shows of a job, and what the state machine needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobRow {
    pub(crate) id: JobId,
    /// Agent that brought it last.
    pub(crate) agent: String,
    /// Hello.session of that agent.
    pub(crate) session: Vec<u8>,
    pub(crate) machine_id: Vec<u8>,
    pub(crate) name: String,
    pub(crate) state: JobState,
    /// Somebody said yes, or nobody has to.
    pub(crate) approved: bool,
    /// It was given keys; they were in memory only.
    pub(crate) had_keys: bool,
    /// What could not be read is to be tried again.
    pub(crate) retry_bad: bool,
    /// It is done and its spool is kept for a resync.
    pub(crate) spool_kept: bool,
    pub(crate) text: String,
    pub(crate) machine: String,
    pub(crate) address: String,
    /// Given with the approval, without secrets.
    pub(crate) options: Vec<String>,
    /// All options, without secrets.
    pub(crate) effective: Vec<String>,
    pub(crate) progress: Progress,
    pub(crate) created_ms: u64,
    pub(crate) ended_ms: u64,
}

/// What a job begins with.
#[derive(Debug)]
pub(crate) struct NewJob<'a> {
    pub(crate) agent: &'a str,
    pub(crate) session: &'a [u8],
    pub(crate) machine_id: &'a [u8],
    pub(crate) machine: &'a str,
    pub(crate) address: &'a str,
    pub(crate) approved: bool,
    /// Encoded inventory.
    pub(crate) inventory: &'a [u8],
    /// Encoded wish.
    pub(crate) wish: &'a [u8],
}

/// The large columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Documents {
    pub(crate) inventory: Vec<u8>,
    pub(crate) wish: Vec<u8>,
    pub(crate) disks: Vec<DiskView>,
    pub(crate) proof: Vec<ProofRange>,
    pub(crate) changes: Vec<types::Change>,
    pub(crate) placed: Vec<String>,
    pub(crate) guest: Option<String>,
}

const COLUMNS: &str = "id, agent, session, machine_id, name, state, approved, had_keys, retry_bad, spool_kept, text, machine, address, options, effective, progress, created_ms, ended_ms";

impl Store {
    /// Notes a new job. It has no name yet.
    pub(crate) fn add_job(&self, new: &NewJob<'_>) -> Result<JobRow> {
        let state = if new.approved {
            JobState::Queued
        } else {
            JobState::WaitingForApproval
        };
        let id = {
            let connection = self.lock();
            connection
                .execute(
                    "INSERT INTO jobs (agent, session, machine_id, name, state, approved, text, machine, address, created_ms, inventory, wish)
                        VALUES (?1, ?2, ?3, '', ?4, ?5, '', ?6, ?7, ?8, ?9, ?10)",
                    params![
                        new.agent,
                        new.session,
                        new.machine_id,
                        state.word(),
                        new.approved,
                        new.machine,
                        new.address,
                        signed(now_ms()),
                        new.inventory,
                        new.wish
                    ],
                )
                .map_err(failed("adding a job"))?;
            JobId(unsigned(connection.last_insert_rowid()))
        };
        self.job(id)?.ok_or_else(|| crate::Error::Store {
            what: format!("job {id} is gone as soon as it was added"),
            source: None,
        })
    }

    /// Every job, oldest first.
    pub(crate) fn jobs(&self) -> Result<Vec<JobRow>> {
        self.select_jobs("1 ORDER BY id", params![])
    }

    /// Jobs that have not ended, oldest first.
    pub(crate) fn unfinished_jobs(&self) -> Result<Vec<JobRow>> {
        self.select_jobs("ended_ms = 0 ORDER BY id", params![])
    }

    /// Jobs of a machine, newest first.
    pub(crate) fn jobs_of_machine(&self, machine_id: &[u8]) -> Result<Vec<JobRow>> {
        self.select_jobs("machine_id = ?1 ORDER BY id DESC", params![machine_id])
    }

    /// Number of jobs that an agent has brought.
    pub(crate) fn count_jobs_of_agent(&self, agent: &str) -> Result<u64> {
        self.lock()
            .query_row(
                "SELECT count(*) FROM jobs WHERE agent = ?1",
                [agent],
                |row| Ok(unsigned(row.get(0)?)),
            )
            .map_err(failed("counting jobs"))
    }

    /// One job.
    pub(crate) fn job(&self, id: JobId) -> Result<Option<JobRow>> {
        Ok(self
            .select_jobs("id = ?1", params![signed(id.0)])?
            .into_iter()
            .next())
    }

    fn select_jobs(
        &self,
        condition: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<JobRow>> {
        let connection = self.lock();
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE {condition}"))
            .and_then(|mut select| select.query_map(parameters, job_row)?.collect())
            .map_err(failed("reading jobs"))
    }

    /// Writes all of a row that can change.
    pub(crate) fn save_job(&self, row: &JobRow) -> Result<()> {
        self.lock()
            .prepare_cached(
                "UPDATE jobs SET agent = ?2, session = ?3, name = ?4, state = ?5, approved = ?6, had_keys = ?7, retry_bad = ?8,
                    spool_kept = ?9, text = ?10, machine = ?11, address = ?12, options = ?13, effective = ?14, progress = ?15,
                    ended_ms = ?16 WHERE id = ?1",
            )
            .and_then(|mut update| {
                update.execute(params![
                    signed(row.id.0),
                    row.agent,
                    row.session,
                    row.name,
                    row.state.word(),
                    row.approved,
                    row.had_keys,
                    row.retry_bad,
                    row.spool_kept,
                    row.text,
                    row.machine,
                    row.address,
                    json(&row.options),
                    json(&row.effective),
                    json(&row.progress),
                    signed(row.ended_ms)
                ])
            })
            .map_err(failed("writing a job"))?;
        Ok(())
    }

    /// The large columns of a job.
    pub(crate) fn documents(&self, id: JobId) -> Result<Option<Documents>> {
        self.lock()
            .prepare_cached(
                "SELECT inventory, wish, disks, proof, changes, placed, guest FROM jobs WHERE id = ?1",
            )
            .and_then(|mut select| {
                select
                    .query_row([signed(id.0)], |row| {
                        Ok(Documents {
                            inventory: row.get(0)?,
                            wish: row.get(1)?,
                            disks: parsed(row, 2)?,
                            proof: parsed(row, 3)?,
                            changes: parsed(row, 4)?,
                            placed: parsed(row, 5)?,
                            guest: row.get(6)?,
                        })
                    })
                    .optional()
            })
            .map_err(failed("reading a job"))
    }

    /// Replaces what the agent told.
    pub(crate) fn save_inventory(&self, id: JobId, inventory: &[u8], wish: &[u8]) -> Result<()> {
        self.update(
            "UPDATE jobs SET inventory = ?2, wish = ?3 WHERE id = ?1",
            params![signed(id.0), inventory, wish],
        )
    }

    /// Replaces what is known of the disks.
    pub(crate) fn save_disks(&self, id: JobId, disks: &[DiskView]) -> Result<()> {
        self.update(
            "UPDATE jobs SET disks = ?2 WHERE id = ?1",
            params![signed(id.0), json(&disks)],
        )
    }

    /// Replaces the proof.
    pub(crate) fn save_proof(&self, id: JobId, proof: &[ProofRange]) -> Result<()> {
        self.update(
            "UPDATE jobs SET proof = ?2 WHERE id = ?1",
            params![signed(id.0), json(&proof)],
        )
    }

    /// Notes what a conversion has made.
    pub(crate) fn save_result(
        &self,
        id: JobId,
        changes: &[types::Change],
        placed: &[String],
        guest: &str,
    ) -> Result<()> {
        self.update(
            "UPDATE jobs SET changes = ?2, placed = ?3, guest = ?4 WHERE id = ?1",
            params![signed(id.0), json(&changes), json(&placed), guest],
        )
    }

    fn update(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<()> {
        self.lock()
            .execute(sql, parameters)
            .map_err(failed("writing a job"))?;
        Ok(())
    }
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let word: String = row.get(5)?;
    let state = JobState::from_word(&word)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(5, word, rusqlite::types::Type::Text))?;
    Ok(JobRow {
        id: JobId(unsigned(row.get(0)?)),
        agent: row.get(1)?,
        session: row.get(2)?,
        machine_id: row.get(3)?,
        name: row.get(4)?,
        state,
        approved: row.get(6)?,
        had_keys: row.get(7)?,
        retry_bad: row.get(8)?,
        spool_kept: row.get(9)?,
        text: row.get(10)?,
        machine: row.get(11)?,
        address: row.get(12)?,
        options: parsed(row, 13)?,
        effective: parsed(row, 14)?,
        progress: parsed(row, 15)?,
        created_ms: unsigned(row.get(16)?),
        ended_ms: unsigned(row.get(17)?),
    })
}

/// Every type here is plain data; nothing of it can fail to be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn parsed<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}
