//! VirtualBox guest additions: distributions' packages, or VBoxLinuxAdditions.run.

use super::{Family, never, nothing};

pub(super) const FAMILY: Family = Family {
    name: "VirtualBox",
    packages: &[
        "virtualbox-guest*",
        "virtualbox-ose-guest*",
        "VirtualBox-guest*",
        "virtualbox-kmp*",
        "app-emulation/virtualbox-guest-additions",
    ],
    services: &[
        "vboxadd",
        "vboxadd-service",
        "vboxadd-x11",
        "vboxadd-timesync",
        "vboxservice",
        "vboxclient",
        "VBoxService",
        "virtualbox-guest-utils",
        "virtualbox-guest-additions",
        "virtualbox-guest-x11",
    ],
    uninstallers: &["/opt/VBoxGuestAdditions-*/uninstall.sh"],
    undo: nothing,
    keep: never,
};
