//! The ways in which Linux guests configure their network, one file each: reading what it says of interfaces, the
//! edits that keep it true on the new machine, and a static address in its own words.

pub(super) mod cloud_init;
pub(super) mod connman;
pub(super) mod dhcpcd;
pub(super) mod etcnet;
pub(super) mod ifcfg;
pub(super) mod ifupdown;
pub(super) mod keyfile;
pub(super) mod netctl;
pub(super) mod netifrc;
pub(super) mod netplan;
pub(super) mod networkd;
pub(super) mod others;
pub(super) mod wicked;

use crate::Root;

use super::found::Found;

/// Readers in order; where two files name one MAC differently, the earlier wins.
const READERS: [fn(&Root, &mut Found); 14] = [
    ifupdown::read,
    netplan::read,
    keyfile::read,
    networkd::read,
    ifcfg::read,
    netifrc::read,
    netctl::read,
    dhcpcd::read,
    connman::read,
    etcnet::read,
    cloud_init::read,
    others::read,
    super::rules::read,
    super::seen::read,
];

/// Everything that is configured, file by file.
pub(super) fn read(root: &Root) -> Found {
    let mut found = Found::default();
    READERS.iter().for_each(|reader| reader(root, &mut found));
    found
}
