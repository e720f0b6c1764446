//! What the administrator is told of the choice of drivers.

use std::collections::BTreeMap;

use types::BlockBus;

use super::choice::{Candidate, Choice, Wanted};
use super::{Plan, Role};
use crate::windows::caps::{Hardware, block_name, net_name};

/// More faults than these are only counted.
const FAULTS_SHOWN: usize = 5;
/// How drivers are given.
const HINT: &str = "give virtio-win as a directory or ISO: --virtio-win PATH or $VIRTIO_WIN";

pub(super) fn of(choice: &Choice, wanted: Wanted, name: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(inexact(choice, wanted, name));
    warnings.extend(signatures(choice, wanted, name));
    for candidate in &choice.candidates {
        if !candidate.missing.is_empty() {
            let missing = candidate.missing.join(", ");
            let path = path(candidate);
            warnings.push(format!("driver {path} is used though {missing} is missing"));
        }
    }
    warnings.extend(faults(choice));
    warnings
}

/// Drivers without which the guest gets emulated devices; `infs` is how many were looked at, if there are any.
pub(super) fn absent(
    plan: &Plan,
    hardware: Hardware,
    wanted: Wanted,
    infs: Option<usize>,
    name: &str,
) -> Option<String> {
    let has = |role| plan.role(role).is_some();
    let disk = has(Role::Block) || has(Role::Scsi);
    let missing = match (disk, has(Role::Net)) {
        (true, true) => return None,
        (true, false) => "no network driver (netkvm)",
        (false, true) => "no disk driver (viostor, vioscsi)",
        (false, false) => "no disk driver (viostor, vioscsi) and no network driver (netkvm)",
    };
    let platform = wanted.platform;
    let (arch, major, minor, build) = (
        platform.arch,
        platform.major,
        platform.minor,
        platform.build,
    );
    let place = match infs {
        None => "no virtio-win drivers are at hand".to_owned(),
        Some(infs) => format!("the {infs} .inf files of virtio-win have {missing}"),
    };
    let (block, net) = (block_name(hardware.block), net_name(hardware.net));
    Some(format!(
        "{place} for {name} ({major}.{minor}.{build} {arch}): its disks will be {block}, its adapters {net}; {HINT}"
    ))
}

/// `--block-driver` that cannot be had.
pub(super) fn wish(hardware: Hardware, wish: Option<BlockBus>) -> Option<String> {
    let wish = wish.filter(|wish| *wish != hardware.block)?;
    let (wish, block) = (block_name(wish), block_name(hardware.block));
    Some(format!(
        "the guest has no driver for disks on {wish}, which were asked for: they will be {block}"
    ))
}

/// Drivers of another release, by its name.
fn inexact(choice: &Choice, wanted: Wanted, name: &str) -> Option<String> {
    let mut releases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut foreign = false;
    for candidate in choice.candidates.iter().filter(|of| !of.package.exact) {
        let place = candidate.release.unwrap_or(&candidate.dir);
        let file = candidate.package.inf_name.trim_end_matches(".inf");
        releases.entry(place).or_default().push(file);
        foreign |= candidate.version.0 < 10;
    }
    if releases.is_empty() {
        return None;
    }
    let lists: Vec<String> = releases
        .iter()
        .map(|(place, drivers)| format!("{place} for {}", drivers.join(", ")))
        .collect();
    let lists = lists.join("; ");
    let boot = if foreign && wanted.platform.major >= 10 {
        "; Windows 10 and later with Secure Boot may refuse drivers that were signed for older systems"
    } else {
        ""
    };
    Some(format!(
        "virtio-win has no drivers of its own for {name}, the nearest are used: {lists}{boot}"
    ))
}

/// Drivers whose signature the system does not know.
fn signatures(choice: &Choice, wanted: Wanted, name: &str) -> Option<String> {
    let unknown: Vec<String> = choice
        .candidates
        .iter()
        .filter(|candidate| !candidate.known_signature)
        .map(path)
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let what = if wanted.platform.major < 6 {
        "it may ask before it installs them; older drivers (virtio-win 0.1.171 and before) are signed by SHA-1"
    } else {
        "install update KB4474419 before the conversion, or give older drivers (virtio-win 0.1.171 and before)"
    };
    Some(format!(
        "{name} does not know the SHA-2 signature of {}: {what}",
        unknown.join(", ")
    ))
}

fn faults(choice: &Choice) -> Vec<String> {
    let faults = &choice.faults;
    let mut warnings: Vec<String> = faults
        .iter()
        .take(FAULTS_SHOWN)
        .map(|fault| format!("a driver of virtio-win is not used: {fault}"))
        .collect();
    if faults.len() > FAULTS_SHOWN {
        let more = faults.len() - FAULTS_SHOWN;
        warnings.push(format!("{more} more drivers of virtio-win are not used"));
    }
    warnings
}

fn path(candidate: &Candidate) -> String {
    let path = format!("{}/{}", candidate.dir, candidate.package.inf_name);
    path.trim_start_matches('/').to_owned()
}
