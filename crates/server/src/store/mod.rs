//! What must survive a restart, in SQLite: tokens, agents, jobs and their logs, refused attempts.
//!
//! One connection behind a mutex; every call is short. The write-ahead log is not synced at each commit, so a power cut
//! may take the last moments with it, never the consistency: tokens alone are synced, lest one be used twice.

mod audit;
mod jobs;
mod logs;
mod schema;
#[cfg(test)]
mod tests;
mod tokens;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

pub(crate) use jobs::{Documents, JobRow, NewJob};
#[cfg(test)]
pub(crate) use logs::{MAX_AGENT_LINES, MAX_LINES};
pub(crate) use tokens::{AgentRow, Redeemed, Refusal, TokenHash};

use crate::state::{FILE_MODE, failed as state_failed};
use crate::{Error, Result};

/// A backup program may hold the database for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens or makes the database.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // Made by us first: SQLite gives its own files the mode of this one.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(FILE_MODE)))
            .map_err(state_failed("opening", path))?;
        let mut connection = Connection::open(path).map_err(failed("opening"))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .and_then(|()| connection.pragma_update(None, "journal_mode", "WAL"))
            .and_then(|()| connection.pragma_update(None, "synchronous", "NORMAL"))
            .and_then(|()| connection.pragma_update(None, "foreign_keys", true))
            .map_err(failed("opening"))?;
        schema::migrate(&mut connection)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// SQLite's integers are signed.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Store {
        what: what.to_owned(),
        source: Some(source),
    }
}
