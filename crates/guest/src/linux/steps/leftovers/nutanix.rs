//! Nutanix Guest Tools, as a package or below /usr/local/nutanix.

use super::{Family, never};
use crate::Result;
use crate::linux::convert::Context;

pub(super) const FAMILY: Family = Family {
    name: "Nutanix",
    packages: &[
        "nutanix-guest-agent*",
        "nutanix-guest-tools*",
        "nutanix-vm-mobility*",
    ],
    services: &[
        "ngt_guest_agent",
        "ngt_self_service_restore",
        "nutanix-guest-agent",
    ],
    uninstallers: &[],
    undo,
    keep: never,
};

fn undo(context: &mut Context<'_>) -> Result<()> {
    let tools = &context.guest.hypervisor_tools;
    if context.root.is_dir("/usr/local/nutanix/ngt")
        && !tools.iter().any(|name| name.starts_with("nutanix"))
    {
        context.recorder.warn(
            "Nutanix Guest Tools are disabled, not removed: remove /usr/local/nutanix by hand",
        );
    }
    Ok(())
}
