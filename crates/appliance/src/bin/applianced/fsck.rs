//! Replays journals before a file system is looked at, and checks it after it was written.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::tool::{Outcome, Tool};

/// A full check of a very large file system that was not unmounted cleanly.
const TIMEOUT: Duration = Duration::from_secs(4 * 3600);

const E2FSCK: &str = "/usr/sbin/e2fsck";
const F2FS: &str = "/usr/sbin/fsck.f2fs";
const JFS: &str = "/usr/sbin/jfs_fsck";

/// e2fsck(8), "EXIT CODE": errors left uncorrected. The same in jfs_fsck(8), and in fsck.f2fs(8) since 1.16; before that it
/// ends with -1, which has this bit too.
const UNCORRECTED: i32 = 4;
/// The same: errors corrected; corrected, and the system should be restarted.
const CORRECTED: i32 = 1 | 2;

/// A check of a whole file system after its conversion may take this long; it is an extra, for what can be found out is
/// found out sooner by the drivers.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the file system consistent by its own journal. ext2 to ext4 go through `e2fsck -p`, which does nothing but
/// that on a sound one, f2fs through `fsck.f2fs -a`, JFS, which has no other way, through `jfs_fsck -a`; the others replay
/// when they are mounted.
pub(crate) fn replay(node: &Path, name: &str, content: &str) -> Result<()> {
    let (program, option) = match content {
        "ext2" | "ext3" | "ext4" => (E2FSCK, "-p"),
        "f2fs" => (F2FS, "-a"),
        "jfs" => (JFS, "-a"),
        _ => return Ok(()),
    };
    let outcome = Tool::new(program)
        .arg(option)
        .arg(node)
        .timeout(TIMEOUT)
        .run()?;
    let words = spoken(&outcome, node, name);
    match outcome.code() {
        Some(0) => Ok(()),
        Some(code) if code & !CORRECTED == 0 => {
            tracing::info!("{}", words.trim());
            Ok(())
        }
        _ => {
            let reason = complaint(&words).unwrap_or_else(|| "it said nothing".to_owned());
            bail!(
                "the {content} file system on {name} is damaged and can't be repaired without a decision ({reason}); \
                 run fsck in the guest first"
            )
        }
    }
}

/// Checks a file system that was written to: what the conversion hands over is sound.
pub(crate) fn verify(node: &Path, name: &str, content: &str) -> Result<()> {
    match damage(node, name, content)? {
        None => Ok(()),
        Some(reason) => bail!(
            "the {content} file system on {name} is damaged, as a check after its conversion finds ({reason}); nothing was \
             copied; run {} in the guest first",
            guests_own_checker(content)
        ),
    }
}

/// Why a file system that could not be mounted is to be repaired, in the words of its checker.
pub(crate) fn explain(node: &Path, name: &str, content: &str) -> Option<String> {
    let reason = damage(node, name, content).ok()??;
    let program = guests_own_checker(content);
    Some(format!(
        "the {content} file system on {name} is damaged ({reason}); run {program} in the guest first"
    ))
}

/// What the file system's checker finds wrong, which changes nothing. One that cannot be checked here, for want of time or
/// memory, is not held to be damaged.
fn damage(node: &Path, name: &str, content: &str) -> Result<Option<String>> {
    // Program, arguments, and the exit status that means damage; 0 is soundness, and any other is the checker's trouble.
    let (program, arguments, damage): (_, &[&str], i32) = match content {
        "ext2" | "ext3" | "ext4" => (E2FSCK, &["-f", "-n"], UNCORRECTED),
        "xfs" => ("/usr/sbin/xfs_repair", &["-n"], 1),
        "btrfs" => ("/usr/bin/btrfs", &["check", "--readonly"], 1),
        "f2fs" => (F2FS, &["--dry-run"], UNCORRECTED),
        "jfs" => (JFS, &["-n"], UNCORRECTED),
        _ => return Ok(None),
    };
    let outcome = Tool::new(program)
        .args(arguments)
        .arg(node)
        .timeout(VERIFY_TIMEOUT)
        .run();
    let why = match outcome {
        Ok(outcome) => match outcome.code() {
            Some(0) => return Ok(None),
            Some(code) if code & damage != 0 => {
                return Ok(Some(findings(&spoken(&outcome, node, name))));
            }
            _ => outcome.complaint(),
        },
        Err(error) => format!("{error:#}"),
    };
    tracing::warn!("{name} is not checked in whole: {why}");
    Ok(None)
}

fn guests_own_checker(content: &str) -> &'static str {
    match content {
        "xfs" => "xfs_repair",
        "btrfs" => "btrfs scrub and btrfs check",
        _ => "fsck",
    }
}

/// What a checker said, with the device called as the guest has it.
fn spoken(outcome: &Outcome, node: &Path, name: &str) -> String {
    let words = format!("{}\n{}", outcome.stdout, outcome.stderr);
    words.replace(&node.display().to_string(), name)
}

/// The first lines of a report that are about something wrong: neither the names of phases nor the program's greeting.
fn findings(words: &str) -> String {
    let dull = [
        "Phase ",
        "Pass ",
        "- ",
        "e2fsck ",
        "Opening ",
        "Checking ",
        "UUID:",
        "[",
        "No modify flag",
        "cache and super",
        "found ",
        "total ",
        "btree ",
        "file data",
        "referenced",
        "csum bytes",
        "Fix? no",
        "IGNORED",
        "Info:",
        "\"Linux",
        "from \"",
        "to \"",
        "jfs_fsck ",
        "processing started",
        "The current device",
        "Block size in bytes",
        "Filesystem size in blocks",
        "**",
    ];
    let lines: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !dull.iter().any(|start| line.starts_with(start)))
        .take(2)
        .collect();
    if lines.is_empty() {
        "it does not say what".to_owned()
    } else {
        lines.join("; ")
    }
}

/// What e2fsck found last before it gave up: not its advice, which is about this machine.
fn complaint(words: &str) -> Option<String> {
    let finding = |line: &&str| {
        !line.is_empty() && !line.contains("UNEXPECTED INCONSISTENCY") && !line.starts_with('(')
    };
    words
        .lines()
        .map(str::trim)
        .rfind(finding)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finding_is_told_apart_from_the_advice() {
        let words = "/dev/sda1 was not cleanly unmounted, check forced.\n/dev/sda1: Inode 12 has illegal block(s).  \n\n\n/dev/sda1: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n\
            \t(i.e., without -a or -p options)\n";
        assert_eq!(
            complaint(words).unwrap(),
            "/dev/sda1: Inode 12 has illegal block(s)."
        );
        assert_eq!(complaint("\n"), None);
    }

    #[test]
    fn a_report_gives_its_first_findings() {
        let xfs = "Phase 1 - find and verify superblock...\nPhase 2 - using internal log\n        - zero log...\n        - scan filesystem freespace and inode maps...\n\
            Metadata CRC error detected at 0x55, xfs_agi block 0x2/0x200\nbad magic # 0x0 for agi 0\nbad version # 0 for agi 0\n";
        assert_eq!(
            findings(xfs),
            "Metadata CRC error detected at 0x55, xfs_agi block 0x2/0x200; bad magic # 0x0 for agi 0"
        );
        let f2fs = "Info: Dry run\nInfo: MKFS version\n  \"Linux version 6.1\"\nInfo: FSCK version\n  from \"Linux version 6.1\"\n    to \"Linux version 6.12\"\n\
            [ASSERT] (sanity_check_nid: 429)  --> nid[0x3]\n\nNID[0x3] is unreachable, blkaddr:0x1000\n[FSCK] other corrupted bugs    [Fail]\n";
        assert_eq!(findings(f2fs), "NID[0x3] is unreachable, blkaddr:0x1000");
        assert_eq!(findings("Phase 1 - x\n"), "it does not say what");
    }
}
