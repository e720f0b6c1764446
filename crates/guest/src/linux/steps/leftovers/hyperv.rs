//! Hyper-V: the kernel's daemons under each distribution's name, and Microsoft's Linux Integration Services.

use super::{Family, never, nothing};

pub(super) const FAMILY: Family = Family {
    name: "Hyper-V",
    packages: &[
        "hyperv-daemons*",
        "hyperv-tools",
        "hyper-v",
        "hypervkvpd",
        "hypervvssd",
        "hypervfcopyd",
        "hvtools",
        "hv-kvp-daemon-init",
        "linux-cloud-tools-*",
        "microsoft-hyper-v*",
        "kmod-microsoft-hyper-v*",
        "scvmmguestagent",
    ],
    services: &[
        "hv-kvp-daemon",
        "hv-vss-daemon",
        "hv-fcopy-daemon",
        "hv-fcopy-uio-daemon",
        "hv_kvp_daemon",
        "hv_vss_daemon",
        "hv_fcopy_daemon",
        "hv_fcopy_uio_daemon",
        "hv_kvpd",
        "hypervkvpd",
        "hypervvssd",
        "hypervfcopyd",
        "scvmmguestagent",
    ],
    uninstallers: &[],
    undo: nothing,
    keep: never,
};
