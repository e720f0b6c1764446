//! Services for hardware that a virtual machine has not, and the clock that the old hypervisor set.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::steps::leftovers::services::Services;
use crate::root::join;

/// Monitors of disks, mainboards and firmware; on KVM they fail or idle.
const SERVICES: [&str; 14] = [
    "smartd",
    "smartmontools",
    "mcelog",
    "lm_sensors",
    "lm-sensors",
    "hdparm",
    "ipmievd",
    "hp-health",
    "hp-asrd",
    "hpasmlited",
    "dataeng",
    "dsm_sa_datamgrd",
    "srvadmin-services",
    "megaraid_sas_monitor",
];
/// Programs that keep the clock: chrony, ntpd, systemd-timesyncd, OpenNTPD, ntpsec, busybox's ntpd.
const CLOCKS: [&str; 8] = [
    "chronyd",
    "chrony",
    "ntpd",
    "ntp",
    "ntpsec",
    "systemd-timesyncd",
    "openntpd",
    "busybox-ntpd",
];

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let enabled = enabled(context);
    let found: Vec<&str> = SERVICES
        .into_iter()
        .filter(|name| enabled.iter().any(|have| have == name))
        .collect();
    if !found.is_empty() {
        context.recorder.warn(format!(
            "these services are for hardware that is not there any more, and may fail: {}",
            found.join(", ")
        ));
    }
    let clock = CLOCKS
        .iter()
        .any(|name| enabled.iter().any(|have| have == name));
    let tools = Services {
        names: &[
            "open-vm-tools",
            "vmtoolsd",
            "vmware-tools",
            "vboxadd-service",
            "prltoolsd",
        ],
        why: "",
    };
    if !clock && (tools.any_installed(context) || !context.guest.hypervisor_tools.is_empty()) {
        context.recorder.warn(
            "the guest tools of the old hypervisor may have set the clock, and no NTP client is enabled: install chrony",
        );
    }
    context
        .recorder
        .not_needed("nothing here needs a change; what may fail is in the warnings");
    Ok(())
}

/// Names, without suffix, of what any init starts at boot.
fn enabled(context: &Context<'_>) -> Vec<String> {
    let root = context.root;
    let mut names = Vec::new();
    for above in [
        "/etc/systemd/system",
        "/lib/systemd/system",
        "/usr/lib/systemd/system",
    ] {
        for dir in root.names(above) {
            if dir.ends_with(".wants") {
                names.extend(root.names(&join(above, &dir)));
            }
        }
    }
    for dir in crate::linux::steps::leftovers::services::rc_dirs(root) {
        let links = root.names(&dir);
        let start = links
            .iter()
            .filter_map(|name| crate::linux::steps::leftovers::services::start_link(name));
        names.extend(start.map(|(_, service)| service.to_owned()));
    }
    for above in ["/etc/runlevels", "/etc/runit/runsvdir"] {
        for dir in root.names(above) {
            names.extend(root.names(&join(above, &dir)));
        }
    }
    for name in &mut names {
        if let Some(stem) = name.strip_suffix(".service") {
            *name = stem.to_owned();
        }
    }
    names
}
