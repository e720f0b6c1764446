//! Processors: name and flags from /proc/cpuinfo, topology from sysfs.

use std::collections::BTreeSet;

use wire::inventory::Cpu;

use super::Paths;
use super::sysfs::{self, clean};

/// Linux supports no more processors.
const MAX_CPUS: u32 = 8192;

/// What the machine computes with.
pub(crate) fn cpu(paths: &Paths) -> Cpu {
    let info = sysfs::whole(paths.proc.join("cpuinfo")).unwrap_or_default();
    let field = |key: &str| {
        info.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let online = online(paths, &info);
    let [sockets, cores_per_socket, threads_per_core] = topology(paths, &online);
    Cpu {
        vendor: field("vendor_id")
            .and_then(|v| clean(&v))
            .unwrap_or_default(),
        model_name: field("model name")
            .and_then(|v| clean(&v))
            .unwrap_or_default(),
        logical: u32::try_from(online.len()).unwrap_or(MAX_CPUS),
        sockets,
        cores_per_socket,
        threads_per_core,
        flags: field("flags")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    }
}

/// Numbers of the processors that are online; at least one.
fn online(paths: &Paths, info: &str) -> Vec<u32> {
    let list = sysfs::text(paths.sys.join("devices/system/cpu/online")).unwrap_or_default();
    let mut all = parse_list(&list);
    if all.is_empty() {
        let count = info
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let count = u32::try_from(count).unwrap_or(MAX_CPUS);
        all = (0..count.clamp(1, MAX_CPUS)).collect();
    }
    all
}

/// `0-3,8,10-11`, the kernel's form of a set.
pub(crate) fn parse_list(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>())
            && last < MAX_CPUS
        {
            all.extend(first..=last);
        }
    }
    all.truncate(usize::try_from(MAX_CPUS).unwrap_or(usize::MAX));
    all
}

/// Sockets, cores in each, threads in each core; their product is the number of processors. Where cores differ (some
/// with threads, some without), every processor counts as a core.
fn topology(paths: &Paths, online: &[u32]) -> [u32; 3] {
    let mut packages = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for cpu in online {
        let dir = paths
            .sys
            .join(format!("devices/system/cpu/cpu{cpu}/topology"));
        let id = |name: &str| sysfs::text(dir.join(name)).unwrap_or_default();
        packages.insert(id("physical_package_id"));
        cores.insert((id("physical_package_id"), id("die_id"), id("core_id")));
    }
    let count = |len: usize| u32::try_from(len.max(1)).unwrap_or(MAX_CPUS);
    let (logical, sockets, cores) = (
        count(online.len()),
        count(packages.len()),
        count(cores.len()),
    );
    if logical % cores == 0 && cores % sockets == 0 {
        // Without topology files everything is in one set: one core with many threads would be a bad guess.
        if cores > 1 || logical == 1 || logical == 2 {
            return [sockets, cores / sockets, logical / cores];
        }
        return [1, logical, 1];
    }
    if logical % sockets == 0 {
        [sockets, logical / sockets, 1]
    } else {
        [1, logical, 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_capped() {
        assert_eq!(parse_list("0-2,8"), [0, 1, 2, 8]);
        assert!(parse_list("0-4294967295").is_empty());
        assert!(parse_list("3-1,x,,-").is_empty());
        assert!(parse_list(&"0-8191,".repeat(50)).len() <= 8192);
    }
}
