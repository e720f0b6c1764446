//! What smartmontools say of a disk's health, where they are installed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a disk may take to answer: a dying one takes for ever.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of smartctl's answer that are read.
const MAX_ANSWER: u64 = 1 << 20;
/// ATA attributes that count sectors (ATA/ATAPI vendors' convention).
const SECTOR_ATTRIBUTES: &[(u64, &str)] = &[
    (5, "reallocated sectors"),
    (197, "pending sectors"),
    (198, "uncorrectable sectors"),
];

/// A disk's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The disk's own verdict.
    pub(crate) healthy: Option<bool>,
    /// One line.
    pub(crate) text: String,
}

/// Finds a program.
pub(crate) fn find(programs: &[PathBuf], name: &str) -> Option<PathBuf> {
    programs
        .iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Asks one disk; `None` where smartctl is absent, is too slow, or does not understand the disk.
pub(crate) fn health(programs: &[PathBuf], device: &Path) -> Option<Health> {
    let answer = run(&find(programs, "smartctl")?, device)?;
    let json: Value = serde_json::from_slice(&answer).ok()?;
    understand(&json)
}

fn run(program: &Path, device: &Path) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .args(["-j", "-H", "-A"])
        .arg(device)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    // Not joined: a process that hangs in the kernel cannot be killed, and must not hold the inventory up.
    std::thread::spawn(move || {
        let mut answer = Vec::new();
        let read = stdout.take(MAX_ANSWER).read_to_end(&mut answer);
        let _ = sender.send(read.is_ok().then_some(answer));
    });
    let started = Instant::now();
    let answer = receiver.recv_timeout(TIMEOUT).ok().flatten();
    if answer.is_none() {
        let _ = child.kill();
    }
    // smartctl's exit status is a set of findings, not of failures; it is only reaped.
    while child.try_wait().ok()?.is_none() && started.elapsed() < TIMEOUT {
        std::thread::sleep(Duration::from_millis(5));
    }
    answer
}

fn understand(json: &Value) -> Option<Health> {
    let healthy = json
        .pointer("/smart_status/passed")
        .and_then(Value::as_bool);
    let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_u64);
    let mut findings = Vec::new();
    let mut count = |value: Option<u64>, what: &str| {
        if let Some(value) = value.filter(|&value| value > 0) {
            findings.push(format!("{value} {what}"));
        }
    };
    let table = json
        .pointer("/ata_smart_attributes/table")
        .and_then(Value::as_array);
    for (id, what) in SECTOR_ATTRIBUTES {
        let entry = table
            .into_iter()
            .flatten()
            .find(|entry| entry.get("id").and_then(Value::as_u64) == Some(*id));
        count(
            entry.and_then(|entry| entry.pointer("/raw/value")?.as_u64()),
            what,
        );
    }
    let nvme = "/nvme_smart_health_information_log";
    count(number(&format!("{nvme}/media_errors")), "media errors");
    count(number("/scsi_grown_defect_list"), "grown defects");
    let used = number(&format!("{nvme}/percentage_used"))
        .or_else(|| number("/scsi_percentage_used_endurance_indicator"));
    if let Some(used) = used {
        findings.push(format!("{used} % of its life used"));
    }
    if let Some(warning) = number(&format!("{nvme}/critical_warning")).filter(|&w| w != 0) {
        findings.push(format!("critical warning {warning:#x}"));
    }
    let verdict = match healthy {
        Some(true) => Some("SMART: passed"),
        Some(false) => Some("SMART: FAILING"),
        None => None,
    };
    if verdict.is_none() && findings.is_empty() {
        return None;
    }
    let text: Vec<String> = verdict
        .map(str::to_owned)
        .into_iter()
        .chain(findings)
        .collect();
    Some(Health {
        healthy,
        text: text.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ata_nvme_and_scsi_answers_become_one_line() {
        for (json, healthy, text) in [
            (
                r#"{"smart_status":{"passed":false},"ata_smart_attributes":{"table":[
                    {"id":5,"raw":{"value":24}},{"id":9,"raw":{"value":9000}},{"id":197,"raw":{"value":3}}]}}"#,
                Some(false),
                "SMART: FAILING, 24 reallocated sectors, 3 pending sectors",
            ),
            (
                r#"{"smart_status":{"passed":true},"nvme_smart_health_information_log":
                    {"critical_warning":0,"percentage_used":7,"media_errors":2}}"#,
                Some(true),
                "SMART: passed, 2 media errors, 7 % of its life used",
            ),
            (r#"{"scsi_grown_defect_list":5}"#, None, "5 grown defects"),
        ] {
            let health = understand(&serde_json::from_str(json).unwrap()).unwrap();
            assert_eq!((health.healthy, &*health.text), (healthy, text));
        }
        assert_eq!(understand(&serde_json::json!({"smartctl": {}})), None);
        assert_eq!(understand(&serde_json::json!([1, 2])), None);
    }
}
