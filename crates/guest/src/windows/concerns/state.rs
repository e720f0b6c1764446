//! Its version, updates and setup that are under way, how it starts, its adapters.

use types::Arch;

use super::{Found, Look};
use crate::windows::files;
use crate::words::list;

const SERVICING: &str = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing";
const AUTO_UPDATE: &str = "Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update";
const SESSION_MANAGER: &str = "Control\\Session Manager";

/// Versions that current drivers do not know.
pub(super) fn versions(look: &Look<'_>, found: &mut Found) {
    let name = &look.guest.product_name;
    if look.guest.arch == Arch::Other {
        found.warning(
            format!("{name} is for a processor for which there are no virtio drivers"),
            "",
        );
    }
    match (look.windows.major, look.windows.minor) {
        (0..5, _) | (5, 0) => found.warning(
            format!("there are no virtio drivers for {name}: it gets an IDE disk and an RTL8139 adapter"),
            "",
        ),
        (5, _) => found.info(
            format!("virtio-win has drivers for {name} in old releases only"),
            "give a virtio-win of 2019 or older (0.1.171 has them) with --virtio-win",
        ),
        (6, 0) => found.info(
            format!("virtio-win has drivers for {name} in old releases only"),
            "give a virtio-win of 2021 or older (0.1.189 has them) with --virtio-win",
        ),
        (6, 1) if !look.windows.sha2 => found.warning(
            format!("{name} has no support for signatures with SHA-2; drivers that are signed with nothing else do not start in it"),
            "install KB4490628 and KB4474419 before the conversion, or give a virtio-win whose drivers for it are signed with SHA-1 (0.1.171 or older)",
        ),
        _ => {}
    }
}

/// More than one Windows on its volume.
pub(super) fn several(look: &Look<'_>, found: &mut Found) {
    if let Some((first, others)) = look.roots.split_first()
        && !others.is_empty()
    {
        found.warning(
            format!(
                "its volume holds more than one Windows: {first} is converted, {} would not start any more",
                list(others)
            ),
            "remove the ones that are not used any more",
        );
    }
}

/// Updates that wait for a restart: drivers that are added now could be lost, or the update rolled back.
pub(super) fn updates(look: &Look<'_>, found: &mut Found) {
    let software = look.software();
    let fix = "restart it at its source until no more updates are installed, then shut it down";
    let pending = format!("{}/WinSxS/pending.xml", look.windows.system_root);
    let in_the_middle = files::find(look.root, &pending).is_some()
        || software.has(&format!("{SERVICING}\\RebootInProgress"))
        || software.has(&format!("{SERVICING}\\PackagesPending"));
    if in_the_middle {
        found.warning(
            "it is in the middle of an update, which goes on at its next start",
            fix,
        );
    } else if software.has(&format!("{SERVICING}\\RebootPending"))
        || software.has(&format!("{AUTO_UPDATE}\\RebootRequired"))
    {
        found.warning("an update waits for its next start", fix);
    }
    let renames = look
        .control()
        .list(SESSION_MANAGER, "PendingFileRenameOperations");
    if !renames.is_empty() {
        let count = renames.len();
        found.info(
            format!("files are replaced or removed at its next start ({count} names are listed)"),
            "restart it at its source before the conversion if that belongs to an update",
        );
    }
}

/// Setup and Sysprep.
pub(super) fn setup(look: &Look<'_>, found: &mut Found) {
    let system = look.reader.system();
    let state = look.software().text(
        "Microsoft\\Windows\\CurrentVersion\\Setup\\State",
        "ImageState",
    );
    if state.is_some_and(|state| state.contains("GENERALIZE")) {
        found.info(
            "it was generalised by Sysprep: at its first start it is set up anew, and its addresses and name are not what they were",
            "",
        );
    } else if system.is_set("Setup", "SystemSetupInProgress") || system.is_set("Setup", "SetupType")
    {
        found.warning(
            "its setup, or an upgrade, is not finished",
            "let it finish at the source",
        );
    }
}

/// What starts it.
pub(super) fn boot(look: &Look<'_>, found: &mut Found) {
    if look.guest.boot_loaders.is_empty() {
        found.warning(
            "nothing was found that starts it: neither bootmgr or ntldr nor an EFI system partition with \\EFI\\Microsoft\\Boot",
            "convert the machine with all of its disks; a guest without a boot loader is repaired with bcdboot from an installation medium",
        );
    }
}

/// Addresses that cannot be given back by the hardware address, and teams.
pub(super) fn adapters(look: &Look<'_>, found: &mut Found) {
    let fixed: Vec<_> = look
        .windows
        .adapters
        .iter()
        .filter(|adapter| !adapter.addresses.is_empty())
        .collect();
    let unknown: Vec<&str> = fixed
        .iter()
        .filter(|adapter| adapter.mac.is_none())
        .map(|adapter| adapter.name.as_str())
        .collect();
    if !unknown.is_empty() && look.windows.adapters.len() > 1 {
        found.info(
            format!(
                "its registry does not say which hardware address belongs to {}: fixed addresses go to adapters by their order where that is certain",
                list(&unknown)
            ),
            "name addresses with --mac MAC:ip:… where the order may be another one",
        );
    }
    let virtual_ones: Vec<&str> = fixed
        .iter()
        .filter(|adapter| !is_hardware(&adapter.device))
        .map(|adapter| adapter.name.as_str())
        .collect();
    if !virtual_ones.is_empty() {
        found.warning(
            format!(
                "fixed addresses belong to adapters that are made of others (a team, a bridge, a virtual switch): {}",
                list(&virtual_ones)
            ),
            "take the team or bridge apart before the conversion, or make it anew afterwards: its members are other adapters then",
        );
    }
}

fn is_hardware(device: &str) -> bool {
    let bus = device.split('\\').next().unwrap_or_default();
    [
        "PCI", "VMBUS", "XEN", "XENVIF", "XENBUS", "USB", "ISAPNP", "PCMCIA", "",
    ]
    .iter()
    .any(|known| bus.eq_ignore_ascii_case(known))
}
