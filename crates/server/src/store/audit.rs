//! Refused attempts: when, why, from where.

use rusqlite::params;

use super::{Store, failed, now_ms, signed};
use crate::Result;

/// Events that are kept; the oldest go.
const MAX_EVENTS: i64 = 10_000;

impl Store {
    /// Notes that something was refused.
    pub(crate) fn audit(&self, event: &str, reason: &str, address: &str) -> Result<()> {
        let connection = self.lock();
        connection
            .prepare_cached(
                "INSERT INTO audit (unix_ms, event, reason, address) VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut insert| {
                insert.execute(params![signed(now_ms()), event, reason, address])
            })
            .and_then(|_| {
                connection.execute(
                    "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1",
                    [MAX_EVENTS],
                )
            })
            .map_err(failed("noting a refusal"))?;
        Ok(())
    }

    /// Event, reason and address of every refusal, oldest first.
    #[cfg(test)]
    pub(crate) fn audit_events(&self) -> Vec<(String, String, String)> {
        let connection = self.lock();
        let mut select = connection
            .prepare("SELECT event, reason, address FROM audit ORDER BY id")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}
