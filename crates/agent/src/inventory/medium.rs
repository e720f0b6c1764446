//! Which disk the agent itself was started from: that one is never sent.

use super::Paths;
use super::block::BlockDevice;
use super::contents::Contents;
use super::sysfs;

/// Volume label of our ISO (iso/).
pub(crate) const MEDIUM_LABEL: &str = "P2V";
/// Where init mounts the medium, or leaves the name of its device.
const MEDIUM_PLACE: &str = "p2v/medium";

/// Names of devices that were given as the medium: by the kernel word `p2v.medium=`, by a line in /run/p2v/medium, by
/// what is mounted there.
pub(crate) fn named(paths: &Paths) -> Vec<String> {
    let words = sysfs::whole(paths.proc.join("cmdline")).unwrap_or_default();
    let word = words
        .split_whitespace()
        .find_map(|word| word.strip_prefix("p2v.medium="))
        .map(str::to_owned);
    let place = paths.run.join(MEDIUM_PLACE);
    let file = sysfs::text(&place);
    let mounts = sysfs::whole(paths.proc.join("mounts")).unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, on) = (fields.next()?, fields.next()?);
        (on == "/run/p2v/medium").then(|| device.to_owned())
    });
    word.into_iter()
        .chain(file)
        .chain(mounted)
        .map(|name| name.trim_start_matches("/dev/").to_owned())
        .collect()
}

/// True for the disk that was named, or one of whose partitions was, or that carries our ISO.
pub(crate) fn is_medium(named: &[String], device: &BlockDevice, contents: &Contents) -> bool {
    let by_name = named.iter().any(|name| {
        *name == device.name
            || name
                .strip_prefix(&device.name)
                .map(|rest| rest.trim_start_matches('p'))
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    by_name
        || contents
            .signatures("")
            .any(|(_, found)| found.content == "iso9660" && found.label == MEDIUM_LABEL)
}
