//! Is there room for the result? Asked before any work.

use std::path::Path;

use image::Preallocation;

use crate::{Error, ErrorKind, Plan, Result};

/// Room for metadata of one image, beside the share that grows with it.
const IMAGE_OVERHEAD: u64 = 1 << 20;
/// qcow2 with 64 KiB clusters: 8 bytes of L2 and 2 of refcount a cluster; a share of 1/4096 covers both.
const METADATA_SHARE: u64 = 4096;

/// Bytes that the disks of this plan will take.
pub(crate) fn needed(plan: &Plan<'_>, preallocation: Preallocation) -> u64 {
    let disks = plan.machine.disks.iter().enumerate();
    disks.fold(0, |sum: u64, (index, disk)| {
        let data = match preallocation {
            Preallocation::Falloc => disk.virtual_size,
            Preallocation::Sparse => plan
                .estimated_bytes
                .get(index)
                .map_or(disk.virtual_size, |&bytes| bytes.min(disk.virtual_size)),
        };
        sum.saturating_add(data)
            .saturating_add(data / METADATA_SHARE)
            .saturating_add(IMAGE_OVERHEAD)
    })
}

/// Bytes that this user can still write to the file system of `dir`.
pub(crate) fn available(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|e| Error::io_at("asking for the free space of", dir, e))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses when less is available than needed; `place` names the folder or pool.
pub(crate) fn refuse_shortage(needed: u64, available: u64, place: &str) -> Result<()> {
    if needed <= available {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NoSpace,
        format!(
            "the result needs about {} in {place}, {} are free",
            human(needed),
            human(available)
        ),
    )
    .with_hint("free some space, or give another place with -os"))
}

/// Bytes for people, in binary units.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scaled = u128::from(bytes) * 10 / 1024;
    while scaled >= 10_240 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", scaled / 10, scaled % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples;

    #[test]
    fn sparse_counts_the_estimate_and_preallocated_the_whole() {
        let mut machine = samples::bios().machine;
        machine.disks[0].virtual_size = 100 << 30;
        machine.disks.push(machine.disks[0].clone());
        let plan = Plan {
            machine: &machine,
            caps: None,
            estimated_bytes: vec![1 << 30],
        };
        let gib = |bytes: u64| bytes >> 30;
        assert_eq!(
            gib(needed(&plan, Preallocation::Sparse)),
            101,
            "a disk without estimate counts whole"
        );
        assert_eq!(gib(needed(&plan, Preallocation::Falloc)), 200);
    }

    #[test]
    fn sums_past_the_end_of_u64_do_not_wrap() {
        let mut machine = samples::bios().machine;
        machine.disks[0].virtual_size = u64::MAX;
        machine.disks.push(machine.disks[0].clone());
        let plan = Plan {
            machine: &machine,
            caps: None,
            estimated_bytes: vec![],
        };
        assert_eq!(needed(&plan, Preallocation::Sparse), u64::MAX);
        assert!(refuse_shortage(u64::MAX, 1 << 60, "/x").is_err());
    }

    #[test]
    fn a_shortage_says_both_figures() {
        let error = refuse_shortage(5 << 30, 3 << 29, "/srv").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(
            error.to_string(),
            "the result needs about 5.0 GiB in /srv, 1.5 GiB are free"
        );
    }

    #[test]
    fn a_real_file_system_has_a_figure() {
        assert!(available(Path::new("/")).unwrap() > 0);
        assert!(available(Path::new("/no/such/folder")).is_err());
    }
}
