//! What the administrator is told of the choice of drivers.

use super::Role;
use super::choice::{Candidate, Choice, Wanted};

/// More faults than these are only counted.
const FAULTS_SHOWN: usize = 5;
/// How drivers are given.
const HINT: &str = "give virtio-win as a directory or ISO: --virtio-win PATH or $VIRTIO_WIN";

pub(super) fn of(choice: &Choice, wanted: Wanted, name: &str, no_tree: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(absent(choice, wanted, name, no_tree));
    warnings.extend(inexact(choice, name));
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

/// Drivers without which the guest gets emulated devices.
fn absent(choice: &Choice, wanted: Wanted, name: &str, no_tree: bool) -> Option<String> {
    let has = |role| {
        let mut roles = choice.candidates.iter().map(|of| of.package.role);
        roles.any(|of| of == role)
    };
    let disk = has(Role::Block) || has(Role::Scsi);
    let missing = match (disk, has(Role::Net)) {
        (true, true) => return None,
        (true, false) => "no network driver (netkvm)",
        (false, true) => "no disk driver (viostor, vioscsi)",
        (false, false) => "no disk (viostor, vioscsi) and no network driver (netkvm)",
    };
    let platform = wanted.platform;
    let (arch, major, minor, build) = (
        platform.arch,
        platform.major,
        platform.minor,
        platform.build,
    );
    let place = if no_tree {
        "no virtio-win drivers are at hand".to_owned()
    } else {
        format!(
            "the {} .inf files of virtio-win have {missing}",
            choice.infs
        )
    };
    Some(format!(
        "{place} for {name} ({major}.{minor}.{build} {arch}): it gets emulated devices instead; {HINT}"
    ))
}

/// Drivers of another release.
fn inexact(choice: &Choice, name: &str) -> Option<String> {
    let others: Vec<String> = choice
        .candidates
        .iter()
        .filter(|candidate| !candidate.package.exact)
        .map(path)
        .collect();
    (!others.is_empty()).then(|| {
        format!(
            "virtio-win has no driver of its own for {name} in these cases, the nearest is used: {}",
            others.join(", ")
        )
    })
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
