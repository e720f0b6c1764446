//! The steps of a conversion, one file each, in the order in which they run.
//!
//! A step may rely on those above it; running all of them again changes nothing.

pub(crate) mod boot_entries;
pub(crate) mod caches;
pub(crate) mod cloud_init;
pub(crate) mod console;
pub(crate) mod default_kernel;
pub(crate) mod device_names;
pub(crate) mod firstboot;
pub(crate) mod guest_agent;
pub(crate) mod hardware_services;
pub(crate) mod initramfs;
pub(crate) mod install_devices;
pub(crate) mod kdump;
pub(crate) mod keep_drivers;
pub(crate) mod kernel_args;
pub(crate) mod leftovers;
pub(crate) mod module_aliases;
pub(crate) mod network;
pub(crate) mod selinux;
pub(crate) mod storage_config;
pub(crate) mod uefi;

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::customise;

/// One named step.
pub(crate) struct Step {
    /// Name in the report and on the screen.
    pub(crate) name: &'static str,
    /// Without it the guest may not start: its failure fails the conversion. The failure of another is a warning.
    pub(crate) essential: bool,
    /// Whether there is anything for it in this guest.
    pub(crate) applies: fn(&Context<'_>) -> bool,
    /// Does it.
    pub(crate) apply: fn(&mut Context<'_>) -> Result<()>,
}

/// All steps in order.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "initramfs",
        essential: true,
        applies: initramfs::applies,
        apply: initramfs::apply,
    },
    Step {
        name: "keep-drivers",
        essential: false,
        applies: keep_drivers::applies,
        apply: keep_drivers::apply,
    },
    Step {
        name: "module-aliases",
        essential: false,
        applies: always,
        apply: module_aliases::apply,
    },
    Step {
        name: "default-kernel",
        essential: true,
        applies: always,
        apply: default_kernel::apply,
    },
    Step {
        name: "device-names",
        essential: true,
        applies: always,
        apply: device_names::apply,
    },
    Step {
        name: "loader-devices",
        essential: false,
        applies: always,
        apply: install_devices::apply,
    },
    Step {
        name: "kernel-arguments",
        essential: false,
        applies: always,
        apply: kernel_args::apply,
    },
    Step {
        name: "uefi-fallback",
        essential: true,
        applies: uefi::applies,
        apply: uefi::apply,
    },
    Step {
        name: "boot-entries",
        essential: false,
        applies: uefi::applies,
        apply: boot_entries::apply,
    },
    Step {
        name: "network",
        essential: false,
        applies: always,
        apply: network::apply,
    },
    Step {
        name: "hypervisor-tools",
        essential: false,
        applies: always,
        apply: leftovers::apply,
    },
    Step {
        name: "cloud-init",
        essential: false,
        applies: always,
        apply: cloud_init::apply,
    },
    Step {
        name: "guest-agent",
        essential: false,
        applies: guest_agent::applies,
        apply: guest_agent::apply,
    },
    Step {
        name: "console",
        essential: false,
        applies: always,
        apply: console::apply,
    },
    Step {
        name: "caches",
        essential: false,
        applies: always,
        apply: caches::apply,
    },
    Step {
        name: "storage-config",
        essential: false,
        applies: always,
        apply: storage_config::apply,
    },
    Step {
        name: "kdump",
        essential: false,
        applies: always,
        apply: kdump::apply,
    },
    Step {
        name: "hardware-services",
        essential: false,
        applies: always,
        apply: hardware_services::apply,
    },
    Step {
        name: "customise",
        essential: true,
        applies: customise::applies,
        apply: customise::apply,
    },
    Step {
        name: "first-boot",
        essential: false,
        applies: firstboot::applies,
        apply: firstboot::apply,
    },
    // Last: it labels what those above it made.
    Step {
        name: "selinux",
        essential: false,
        applies: selinux::applies,
        apply: selinux::apply,
    },
];

fn always(_: &Context<'_>) -> bool {
    true
}
