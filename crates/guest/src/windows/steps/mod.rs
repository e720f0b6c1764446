//! The steps of a conversion, one file each, in the order in which they run.
//!
//! A step may rely on those above it; running all of them again changes nothing.

pub(crate) mod addresses;
pub(crate) mod boot_drivers;
pub(crate) mod boot_files;
mod control_set;
pub(crate) mod customise;
pub(crate) mod disks;
pub(crate) mod driver_store;
pub(crate) mod first_boot;
pub(crate) mod guest_agent;
pub(crate) mod leftovers;
pub(crate) mod save;
#[cfg(test)]
mod testing;

use crate::Result;
use crate::windows::convert::Context;
use crate::windows::hibernation;

/// One named step.
pub(crate) struct Step {
    /// Name in the report and on the screen.
    pub(crate) name: &'static str,
    /// Without it the guest may not start: its failure fails the conversion. The failure of another is a warning.
    pub(crate) essential: bool,
    /// Does it.
    pub(crate) apply: fn(&mut Context<'_>) -> Result<()>,
}

/// All steps in order.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "hibernation",
        essential: true,
        apply: hibernation::apply,
    },
    Step {
        name: "boot-drivers",
        essential: true,
        apply: boot_drivers::apply,
    },
    Step {
        name: "driver-store",
        essential: false,
        apply: driver_store::apply,
    },
    Step {
        name: "addresses",
        essential: false,
        apply: addresses::apply,
    },
    Step {
        name: "disks",
        essential: false,
        apply: disks::apply,
    },
    Step {
        name: "hypervisor-tools",
        essential: false,
        apply: leftovers::apply,
    },
    Step {
        name: "boot-files",
        essential: true,
        apply: boot_files::apply,
    },
    Step {
        name: "guest-agent",
        essential: false,
        apply: guest_agent::apply,
    },
    Step {
        name: "customise",
        essential: true,
        apply: customise::apply,
    },
    Step {
        name: "first-boot",
        essential: false,
        apply: first_boot::apply,
    },
    Step {
        name: "registry",
        essential: true,
        apply: save::apply,
    },
];
