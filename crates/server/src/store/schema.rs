//! Tables of the database. `user_version` counts the migrations that have run.

use rusqlite::{Connection, TransactionBehavior};

use super::failed;
use crate::{Error, Result};

/// Each brings the database from the version that is its place here to the next.
const MIGRATIONS: &[&str] = &[FIRST];

/// Secrets of tokens are kept as BLAKE3 only; keys of encrypted volumes are not kept at all. Times are milliseconds
/// since 1970, 0 for not yet. JSON columns hold the types of `model`.
const FIRST: &str = "
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    secret_hash BLOB NOT NULL UNIQUE,
    note TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0,
    auto_approve INTEGER NOT NULL
) STRICT;
CREATE TABLE token_machines (
    token INTEGER NOT NULL REFERENCES tokens(id),
    machine_id BLOB NOT NULL,
    PRIMARY KEY (token, machine_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    token INTEGER NOT NULL REFERENCES tokens(id),
    machine_id BLOB NOT NULL,
    label TEXT NOT NULL,
    fingerprint BLOB NOT NULL UNIQUE,
    withdrawn INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX agents_by_machine ON agents(machine_id);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL REFERENCES agents(id),
    session BLOB NOT NULL,
    machine_id BLOB NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    approved INTEGER NOT NULL,
    had_keys INTEGER NOT NULL DEFAULT 0,
    retry_bad INTEGER NOT NULL DEFAULT 0,
    spool_kept INTEGER NOT NULL DEFAULT 0,
    text TEXT NOT NULL,
    machine TEXT NOT NULL,
    address TEXT NOT NULL,
    options TEXT NOT NULL DEFAULT '[]',
    effective TEXT NOT NULL DEFAULT '[]',
    progress TEXT NOT NULL DEFAULT '{}',
    created_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL DEFAULT 0,
    inventory BLOB NOT NULL,
    wish BLOB NOT NULL,
    disks TEXT NOT NULL DEFAULT '[]',
    proof TEXT NOT NULL DEFAULT '[]',
    changes TEXT NOT NULL DEFAULT '[]',
    placed TEXT NOT NULL DEFAULT '[]',
    guest TEXT,
    log_lines INTEGER NOT NULL DEFAULT 0,
    agent_log_lines INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_machine ON jobs(machine_id);
CREATE INDEX jobs_by_agent ON jobs(agent);
CREATE TABLE log (
    job INTEGER NOT NULL REFERENCES jobs(id),
    number INTEGER NOT NULL,
    unix_ms INTEGER NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unix_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    reason TEXT NOT NULL,
    address TEXT NOT NULL
) STRICT;
";

/// Brings a database to the newest version; one that is newer than this program is refused.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let version: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed("reading its version"))?;
    if version > MIGRATIONS.len() {
        return Err(Error::Store {
            what: format!(
                "expected version {} at most, found {version}: a newer v2v made it",
                MIGRATIONS.len()
            ),
            source: None,
        });
    }
    for (from, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("migrating"))?;
        transaction
            .execute_batch(sql)
            .and_then(|()| transaction.pragma_update(None, "user_version", from + 1))
            .and_then(|()| transaction.commit())
            .map_err(failed("migrating"))?;
    }
    Ok(())
}
