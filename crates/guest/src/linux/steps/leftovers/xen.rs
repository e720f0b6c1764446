//! Xen and XenServer: the guest utilities. The console is the business of its own step.

use super::{Family, never, nothing};

pub(super) const FAMILY: Family = Family {
    name: "Xen",
    packages: &[
        "xe-guest-utilities*",
        "xen-guest-agent",
        "xen-tools-domU",
        "xen-kmp*",
        "app-emulation/xe-guest-utilities",
    ],
    services: &[
        "xe-linux-distribution",
        "xe-daemon",
        "xen-guest-agent",
        "xe-guest-utilities",
        "xendomains",
    ],
    uninstallers: &[],
    undo: nothing,
    keep: never,
};
