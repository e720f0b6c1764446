//! Tokens and the agents that came of them.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use wire::join::{Fingerprint, Secret};

use super::{Store, failed, now_ms, signed, unsigned};
use crate::{NewToken, Result, TokenView};

/// A token without an end is a key under the mat.
const DEFAULT_TTL_SECONDS: u64 = 24 * 60 * 60;
/// Ten years, so that no sum overflows.
const MAX_TTL_SECONDS: u64 = 10 * 365 * DEFAULT_TTL_SECONDS;

/// BLAKE3 of a token's secret: all that is kept of it. Looked up, never compared byte by byte: who can measure the look-up
/// learns something of a hash, and nothing of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of this secret.
    pub(crate) fn of(secret: Secret) -> Self {
        Self(*blake3::hash(&secret.0).as_bytes())
    }
}

/// Why a secret was not traded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token has it.
    Unknown,
    /// Its time is over.
    Expired,
    /// An administrator withdrew it.
    Revoked,
    /// As many machines as may have used it.
    UsedByAnother,
    /// This machine used it, and its job has ended.
    JobEnded,
}

/// A known agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentRow {
    pub(crate) id: String,
    pub(crate) machine_id: Vec<u8>,
    pub(crate) label: String,
    /// Jobs of its token need no approval.
    pub(crate) auto_approve: bool,
}

/// A secret that was traded.
#[derive(Debug)]
pub(crate) struct Redeemed {
    /// The certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// Earlier certificates of the machine that are withdrawn now.
    pub(crate) withdrawn: usize,
}

struct Found {
    id: i64,
    expires_ms: u64,
    uses: u64,
    revoked: bool,
}

impl Store {
    /// Notes a new token. Returns its number and when it expires.
    pub(crate) fn add_token(&self, hash: TokenHash, new: &NewToken) -> Result<(u64, u64)> {
        let ttl = match new.ttl_seconds {
            0 => DEFAULT_TTL_SECONDS,
            seconds => seconds.min(MAX_TTL_SECONDS),
        };
        let now = now_ms();
        let expires = now.saturating_add(ttl * 1000);
        let connection = self.lock();
        connection
            .execute(
                "INSERT INTO tokens (secret_hash, note, created_ms, expires_ms, uses, auto_approve) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![hash.0, new.note, signed(now), signed(expires), new.uses.max(1), new.auto_approve],
            )
            .map_err(failed("adding a token"))?;
        Ok((unsigned(connection.last_insert_rowid()), expires))
    }

    /// Every token, oldest first.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenView>> {
        let connection = self.lock();
        let mut select = connection
            .prepare_cached(
                "SELECT id, note, created_ms, expires_ms, uses, revoked, auto_approve,
                    (SELECT count(*) FROM token_machines WHERE token = tokens.id) FROM tokens ORDER BY id",
            )
            .map_err(failed("reading tokens"))?;
        select
            .query_map([], |row| {
                Ok(TokenView {
                    id: unsigned(row.get(0)?),
                    note: row.get(1)?,
                    created_unix_ms: unsigned(row.get(2)?),
                    expires_unix_ms: unsigned(row.get(3)?),
                    uses: row.get(4)?,
                    revoked: row.get(5)?,
                    auto_approve: row.get(6)?,
                    used: row.get(7)?,
                })
            })
            .and_then(Iterator::collect)
            .map_err(failed("reading tokens"))
    }

    /// Withdraws a token; false if there is none of this number.
    pub(crate) fn revoke_token(&self, id: u64) -> Result<bool> {
        let changed = self
            .lock()
            .execute("UPDATE tokens SET revoked = 1 WHERE id = ?1", [signed(id)])
            .map_err(failed("withdrawing a token"))?;
        Ok(changed > 0)
    }

    /// Trades a secret for an agent, all or nothing. `sign` makes the certificate (DER) once nothing else can refuse.
    pub(crate) fn redeem(
        &self,
        hash: TokenHash,
        agent: &AgentRow,
        fingerprint_of: impl Fn(&[u8]) -> Fingerprint,
        sign: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Result<Redeemed, Refusal>> {
        let mut connection = self.lock();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("enrolling"))?;
        let found = match may_use(&transaction, hash, &agent.machine_id) {
            Ok(Ok(found)) => found,
            Ok(Err(refusal)) => return Ok(Err(refusal)),
            Err(error) => return Err(failed("looking a token up")(error)),
        };
        let certificate = sign()?;
        let fingerprint = fingerprint_of(&certificate);
        let withdrawn =
            note_agent(&transaction, &found, agent, fingerprint).map_err(failed("enrolling"))?;
        transaction.commit().map_err(failed("enrolling"))?;
        // A token that is used must be so after a power cut as well.
        let flushed = connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()));
        flushed.map_err(failed("enrolling"))?;
        Ok(Ok(Redeemed {
            certificate,
            withdrawn,
        }))
    }

    /// The agent of this certificate, unless it was withdrawn.
    pub(crate) fn agent_by_fingerprint(
        &self,
        fingerprint: Fingerprint,
    ) -> Result<Option<AgentRow>> {
        self.agent(
            "fingerprint = ?1 AND withdrawn = 0",
            params![fingerprint.0.as_slice()],
        )
    }

    /// The agent of this name, unless it was withdrawn.
    pub(crate) fn agent_by_id(&self, id: &str) -> Result<Option<AgentRow>> {
        self.agent("agents.id = ?1 AND withdrawn = 0", params![id])
    }

    fn agent(
        &self,
        condition: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Option<AgentRow>> {
        let sql = format!(
            "SELECT agents.id, machine_id, label, auto_approve FROM agents JOIN tokens ON tokens.id = agents.token WHERE {condition}"
        );
        let row = |row: &Row<'_>| {
            Ok(AgentRow {
                id: row.get(0)?,
                machine_id: row.get(1)?,
                label: row.get(2)?,
                auto_approve: row.get(3)?,
            })
        };
        self.lock()
            .prepare_cached(&sql)
            .and_then(|mut select| select.query_row(parameters, row).optional())
            .map_err(failed("looking an agent up"))
    }
}

fn may_use(
    connection: &Connection,
    hash: TokenHash,
    machine_id: &[u8],
) -> rusqlite::Result<Result<Found, Refusal>> {
    let found = connection
        .prepare_cached("SELECT id, expires_ms, uses, revoked FROM tokens WHERE secret_hash = ?1")?
        .query_row([hash.0.as_slice()], |row| {
            Ok(Found {
                id: row.get(0)?,
                expires_ms: unsigned(row.get(1)?),
                uses: unsigned(row.get(2)?),
                revoked: row.get(3)?,
            })
        })
        .optional()?;
    let Some(found) = found else {
        return Ok(Err(Refusal::Unknown));
    };
    if found.revoked {
        return Ok(Err(Refusal::Revoked));
    }
    let bound: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM token_machines WHERE token = ?1 AND machine_id = ?2)",
        )?
        .query_row(params![found.id, machine_id], |row| row.get(0))?;
    let last_ended: Option<u64> = connection
        .prepare_cached(
            "SELECT ended_ms FROM jobs JOIN agents ON agents.id = jobs.agent
                WHERE agents.token = ?1 AND jobs.machine_id = ?2 ORDER BY jobs.id DESC LIMIT 1",
        )?
        .query_row(params![found.id, machine_id], |row| {
            Ok(unsigned(row.get(0)?))
        })
        .optional()?;
    let expired = found.expires_ms <= now_ms();
    Ok(match (bound, last_ended) {
        // A copy may take longer than the token lives: the machine of an unfinished job may always come back.
        (true, Some(0)) => Ok(found),
        (true, Some(_)) => Err(Refusal::JobEnded),
        _ if expired => Err(Refusal::Expired),
        (true, None) => Ok(found),
        (false, _) => {
            let used: i64 = connection
                .prepare_cached("SELECT count(*) FROM token_machines WHERE token = ?1")?
                .query_row([found.id], |row| row.get(0))?;
            if unsigned(used) >= found.uses {
                Err(Refusal::UsedByAnother)
            } else {
                Ok(found)
            }
        }
    })
}

fn note_agent(
    transaction: &Transaction<'_>,
    token: &Found,
    agent: &AgentRow,
    fingerprint: Fingerprint,
) -> rusqlite::Result<usize> {
    transaction.execute(
        "INSERT OR IGNORE INTO token_machines (token, machine_id) VALUES (?1, ?2)",
        params![token.id, agent.machine_id],
    )?;
    let withdrawn = transaction.execute(
        "UPDATE agents SET withdrawn = 1 WHERE machine_id = ?1 AND withdrawn = 0",
        params![agent.machine_id],
    )?;
    transaction.execute(
        "INSERT INTO agents (id, token, machine_id, label, fingerprint, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            agent.id,
            token.id,
            agent.machine_id,
            agent.label,
            fingerprint.0.as_slice(),
            signed(now_ms())
        ],
    )?;
    Ok(withdrawn)
}
