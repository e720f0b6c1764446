//! Replays journals before a file system is looked at, and checks it after it was written.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::tool::Tool;

/// A full check of a very large file system that was not unmounted cleanly.
const TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// e2fsck(8), "EXIT CODE": errors corrected; corrected, and the system should be restarted.
const CORRECTED: i32 = 1 | 2;

/// Makes the file system consistent by its own journal. ext2 to ext4 go through `e2fsck -p`, which does nothing but
/// that on a sound one; the others replay when they are mounted.
pub(crate) fn replay(node: &Path, name: &str, content: &str) -> Result<()> {
    if !content.starts_with("ext") {
        return Ok(());
    }
    let outcome = Tool::new("/usr/sbin/e2fsck")
        .arg("-p")
        .arg(node)
        .timeout(TIMEOUT)
        .run()?;
    let node = node.display().to_string();
    let words = outcome.stdout.replace(&node, name);
    match outcome.code() {
        Some(0) => Ok(()),
        Some(code) if code & !CORRECTED == 0 => {
            tracing::info!("{}", words.trim());
            Ok(())
        }
        _ => {
            let reason =
                complaint(&words).unwrap_or_else(|| outcome.complaint().replace(&node, name));
            bail!(
                "the {content} file system on {name} is damaged and can't be repaired without a decision ({reason}); \
                 run fsck in the guest first"
            )
        }
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
}
