//! The steps of a conversion, one file each, in the order in which they run.
//!
//! A step may rely on those above it; running all of them again changes nothing.

pub(crate) mod caches;
pub(crate) mod console;
pub(crate) mod device_names;
pub(crate) mod guest_agent;
pub(crate) mod initramfs;
pub(crate) mod keep_drivers;
pub(crate) mod network;
pub(crate) mod selinux;
pub(crate) mod tools;
pub(crate) mod uefi;

use crate::Result;
use crate::linux::convert::Context;

/// One named step.
pub(crate) struct Step {
    /// Name in the report and on the screen.
    pub(crate) name: &'static str,
    /// Whether there is anything for it in this guest.
    pub(crate) applies: fn(&Context<'_>) -> bool,
    /// Does it.
    pub(crate) apply: fn(&mut Context<'_>) -> Result<()>,
}

/// All steps in order.
pub(crate) const STEPS: [Step; 10] = [
    Step { name: "initramfs", applies: initramfs::applies, apply: initramfs::apply },
    Step { name: "keep-drivers", applies: keep_drivers::applies, apply: keep_drivers::apply },
    Step { name: "device-names", applies: always, apply: device_names::apply },
    Step { name: "uefi-fallback", applies: uefi::applies, apply: uefi::apply },
    Step { name: "network", applies: always, apply: network::apply },
    Step { name: "hypervisor-tools", applies: always, apply: tools::apply },
    Step { name: "guest-agent", applies: guest_agent::applies, apply: guest_agent::apply },
    Step { name: "console", applies: always, apply: console::apply },
    Step { name: "caches", applies: always, apply: caches::apply },
    Step { name: "selinux", applies: selinux::applies, apply: selinux::apply },
];

fn always(_: &Context<'_>) -> bool {
    true
}
