//! Looking things up in what the appliance found, and identifiers to be found.

use types::{GuestInfo, StorageMap};

pub(crate) fn uuid(digit: char) -> String {
    let run = |count| digit.to_string().repeat(count);
    format!("{}-{}-{}-{}-{}", run(8), run(4), run(4), run(4), run(12))
}

pub(crate) fn root_of<'a>(guests: &'a [GuestInfo], hostname: &str) -> &'a GuestInfo {
    guests
        .iter()
        .find(|guest| guest.hostname.as_deref() == Some(hostname))
        .unwrap_or_else(|| {
            panic!(
                "no guest {hostname} among {:?}",
                guests
                    .iter()
                    .map(|guest| (&guest.root, &guest.hostname))
                    .collect::<Vec<_>>()
            )
        })
}

pub(crate) fn content<'a>(storage: &'a StorageMap, name: &str) -> &'a str {
    &storage
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {storage:#?}"))
        .content
}

/// Where the guest mounts what.
pub(crate) fn mounts_of(guest: &GuestInfo) -> Vec<(&str, &str)> {
    let mounts = guest.mountpoints.iter();
    mounts
        .map(|mount| (mount.path.as_str(), mount.device.as_str()))
        .collect()
}
