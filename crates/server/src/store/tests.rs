//! Tokens, jobs and logs over a real database file.

use std::os::unix::fs::PermissionsExt;

use wire::join::Secret;

use super::*;
use crate::{JobId, NewToken};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("v2v.db")).unwrap();
    (dir, store)
}

fn new_token(uses: u32) -> NewToken {
    NewToken {
        servers: vec![],
        ttl_seconds: 0,
        uses,
        auto_approve: false,
        note: "rack 4".into(),
    }
}

fn agent(id: &str, machine: u8) -> AgentRow {
    AgentRow {
        id: id.into(),
        machine_id: vec![machine; 32],
        label: "a machine".into(),
        auto_approve: false,
    }
}

fn redeem(store: &Store, secret: u8, id: &str, machine: u8) -> Result<usize, Refusal> {
    let sign = || Ok(id.as_bytes().to_vec());
    store
        .redeem(
            TokenHash::of(Secret([secret; 16])),
            &agent(id, machine),
            wire::tls::fingerprint,
            sign,
        )
        .unwrap()
        .map(|redeemed| redeemed.withdrawn)
}

fn add_job(store: &Store, agent: &str, machine: u8) -> JobRow {
    store
        .add_job(&NewJob {
            agent,
            session: &[1; 16],
            machine_id: &[machine; 32],
            machine: "m",
            address: "192.0.2.1",
            approved: false,
            inventory: &[],
            wish: &[],
        })
        .unwrap()
}

fn known(store: &Store, id: &str) -> bool {
    let fingerprint = wire::tls::fingerprint(id.as_bytes());
    store.agent_by_fingerprint(fingerprint).unwrap().is_some()
}

#[test]
fn a_token_is_for_one_machine_and_that_one_may_come_back() {
    let (_dir, store) = store();
    store
        .add_token(TokenHash::of(Secret([1; 16])), &new_token(1))
        .unwrap();
    assert_eq!(redeem(&store, 9, "x", 1), Err(Refusal::Unknown));
    assert_eq!(redeem(&store, 1, "first", 1), Ok(0));
    assert_eq!(redeem(&store, 1, "thief", 2), Err(Refusal::UsedByAnother));
    assert!(known(&store, "first") && !known(&store, "thief"));
    // It was reset before it said hello, and again while its job was unfinished.
    assert_eq!(redeem(&store, 1, "second", 1), Ok(1));
    let mut job = add_job(&store, "second", 1);
    assert_eq!(redeem(&store, 1, "third", 1), Ok(1));
    assert!(known(&store, "third") && !known(&store, "first") && !known(&store, "second"));
    job.ended_ms = 5;
    store.save_job(&job).unwrap();
    assert_eq!(redeem(&store, 1, "fourth", 1), Err(Refusal::JobEnded));
    assert!(known(&store, "third"));
    assert_eq!(store.tokens().unwrap()[0].used, 1);
}

#[test]
fn a_token_expires_unless_its_machine_has_an_unfinished_job() {
    let (_dir, store) = store();
    for secret in [1, 2, 3] {
        store
            .add_token(TokenHash::of(Secret([secret; 16])), &new_token(2))
            .unwrap();
    }
    assert_eq!(redeem(&store, 1, "working", 1), Ok(0));
    assert_eq!(redeem(&store, 2, "idle", 2), Ok(0));
    add_job(&store, "working", 1);
    store
        .lock()
        .execute("UPDATE tokens SET expires_ms = 1", [])
        .unwrap();
    assert_eq!(redeem(&store, 1, "again", 1), Ok(1));
    assert_eq!(redeem(&store, 1, "other", 7), Err(Refusal::Expired));
    assert_eq!(redeem(&store, 2, "late", 2), Err(Refusal::Expired));
    assert_eq!(redeem(&store, 3, "never", 3), Err(Refusal::Expired));
    assert!(store.revoke_token(1).unwrap());
    assert!(!store.revoke_token(99).unwrap());
    assert_eq!(redeem(&store, 1, "revoked", 1), Err(Refusal::Revoked));
    assert!(known(&store, "again"), "its agent stays");
}

#[test]
fn a_refused_signature_uses_no_token_up() {
    let (_dir, store) = store();
    let hash = TokenHash::of(Secret([1; 16]));
    store.add_token(hash, &new_token(1)).unwrap();
    let refused = store.redeem(hash, &agent("x", 1), wire::tls::fingerprint, || {
        Err(Error::Pki("no".into()))
    });
    assert!(refused.is_err());
    assert_eq!(redeem(&store, 1, "y", 2), Ok(0));
}

#[test]
fn the_file_is_private_holds_no_secret_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v2v.db");
    let store = Store::open(&path).unwrap();
    let secret = *b"0123456789secret";
    store
        .add_token(TokenHash::of(Secret(secret)), &new_token(1))
        .unwrap();
    store
        .redeem(
            TokenHash::of(Secret(secret)),
            &agent("a", 1),
            wire::tls::fingerprint,
            || Ok(b"a".to_vec()),
        )
        .unwrap()
        .unwrap();
    let mut row = add_job(&store, "a", 1);
    row.name = "web01".into();
    row.options = vec!["-o".into(), "null".into()];
    row.progress.done_bytes = u64::MAX >> 1;
    store.save_job(&row).unwrap();
    store.append_log(row.id, "info", "a\nb\x1b[1m").unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        let content = std::fs::read(entry.path()).unwrap();
        assert!(!content.windows(16).any(|window| window == secret));
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.job(row.id).unwrap(), Some(row.clone()));
    assert_eq!(store.logs(row.id, 0, 10).unwrap()[0].text, "a b [1m");
    assert_eq!(store.unfinished_jobs().unwrap().len(), 1);
    store
        .lock()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    drop(store);
    let error = Store::open(&path).unwrap_err();
    assert!(error.to_string().contains("newer v2v"), "{error}");
}

#[test]
fn a_log_is_numbered_without_gaps_and_has_an_end() {
    let (_dir, store) = store();
    store
        .add_token(TokenHash::of(Secret([1; 16])), &new_token(1))
        .unwrap();
    redeem(&store, 1, "a", 1).unwrap();
    let job = add_job(&store, "a", 1).id;
    store.append_log(JobId(77), "info", "no such job").unwrap();
    store.append_log(job, "info", &"é".repeat(5000)).unwrap();
    // Near the end at once: the loop would take its time.
    let near = |agent: u64, all: u64| {
        let sql = "UPDATE jobs SET agent_log_lines = ?1, log_lines = ?2";
        store
            .lock()
            .execute(sql, [signed(agent), signed(all)])
            .unwrap();
    };
    near(MAX_AGENT_LINES - 2, 1);
    for _ in 0..5 {
        store.append_log(job, "agent", "chatter").unwrap();
    }
    store
        .append_log(job, "info", "the server still talks")
        .unwrap();
    let lines = store.logs(job, 0, 100).unwrap();
    let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(lines[0].text.len() <= 4096);
    assert!(lines[2].text.contains("no more are kept"));
    assert_eq!(lines[3].level, "info");
    near(0, MAX_LINES - 1);
    for _ in 0..3 {
        store.append_log(job, "info", "x").unwrap();
    }
    let lines = store.logs(job, 4, 100).unwrap();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].text.contains("20000 lines"));
}

#[test]
fn refusals_are_kept_up_to_a_number() {
    let (_dir, store) = store();
    store.audit("enrol", "unknown", "192.0.2.1:5").unwrap();
    assert_eq!(
        store.audit_events(),
        [("enrol".into(), "unknown".into(), "192.0.2.1:5".into())]
    );
}
