//! What forbids or hinders: policies, signatures, encryption, licences, the domain.

use types::DeviceKind;

use super::{Found, Look};
use crate::windows::files;

const RESTRICTIONS: &str = "Policies\\Microsoft\\Windows\\DeviceInstall\\Restrictions";
/// Setup classes of the devices that the new machine has: SCSI adapters, network adapters, system devices, displays.
const CLASSES: [&str; 4] = [
    "4d36e97b-e325-11ce-bfc1-08002be10318",
    "4d36e972-e325-11ce-bfc1-08002be10318",
    "4d36e97d-e325-11ce-bfc1-08002be10318",
    "4d36e968-e325-11ce-bfc1-08002be10318",
];

/// Group policy "Device Installation Restrictions" (DeviceInstallation.admx).
pub(super) fn drivers(look: &Look<'_>, found: &mut Found) {
    let software = look.software();
    let listed = |name: &str| -> Vec<String> {
        let key = format!("{RESTRICTIONS}\\{name}");
        let values = software.values(&key).into_iter();
        values
            .filter_map(|(_, value)| value.as_text())
            .map(|text| text.to_ascii_lowercase())
            .collect()
    };
    let is_on = |name: &str| software.is_set(RESTRICTIONS, name);
    let all = is_on("DenyUnspecified");
    let ids = is_on("DenyDeviceIDs")
        && listed("DenyDeviceIDs")
            .iter()
            .any(|id| id.starts_with("pci\\ven_1af4") || id == "pci\\*");
    let classes = is_on("DenyDeviceClasses")
        && listed("DenyDeviceClasses")
            .iter()
            .any(|class| CLASSES.iter().any(|own| class.contains(own)));
    if all || ids || classes {
        found.warning(
            "a group policy forbids to install devices such as the new machine has: drivers besides those it starts from are not installed",
            "allow hardware ids PCI\\VEN_1AF4* in \"Device Installation Restrictions\" before the conversion",
        );
    }
}

/// Policies of what may run at all.
pub(super) fn code_integrity(look: &Look<'_>, found: &mut Found) {
    let folder = format!("{}/System32/CodeIntegrity", look.windows.system_root);
    let has = |name: &str| files::find(look.root, &format!("{folder}/{name}")).is_some();
    let custom =
        files::find(look.root, &format!("{folder}/CiPolicies/Active")).is_some_and(|path| {
            look.root
                .names(&path)
                .iter()
                .any(|name| is_custom_policy(name))
        });
    if has("SIPolicy.p7b") || custom {
        found.warning(
            "a policy of Windows Defender Application Control is active; it may forbid the virtio drivers and the program that runs at the first start",
            "allow drivers signed by Red Hat and Microsoft, or take the policy away before the conversion",
        );
    }
    if look
        .control()
        .is_set("Control\\DeviceGuard", "EnableVirtualizationBasedSecurity")
    {
        found.info(
            "virtualization-based security is switched on; without nested virtualization on the new host it does not start",
            "",
        );
    }
}

/// Policies that every Windows 11 has are none of the administrator's (Microsoft, "Inbox WDAC policies").
fn is_custom_policy(name: &str) -> bool {
    const INBOX: [&str; 5] = [
        "{784c4414-79f4-4c32-a6a5-f0fb42a51d0d}",
        "{5dac656c-21ad-4a02-ab49-649917162e70}",
        "{cdd5cb55-db68-4d71-aa38-3df2b6473a52}",
        "{0283ac0f-fff1-49ae-ada1-8a933130cad6}",
        "{1283ac0f-fff1-49ae-ada1-8a933130cad6}",
    ];
    let name = name.to_ascii_lowercase();
    let Some(id) = name.strip_suffix(".cip") else {
        return false;
    };
    !INBOX.contains(&id)
        && !id.starts_with("{d2bda982-")
        && !id.starts_with("{82443e1e-")
        && !id.starts_with("{a072029f-")
}

/// Domain controllers.
pub(super) fn domain_controller(look: &Look<'_>, found: &mut Found) {
    if look.windows.product_type.eq_ignore_ascii_case("LanmanNT") {
        found.warning(
            "it is a domain controller: if it ever runs again at its source after the copy ran, or from an older copy, its directory does not replicate any more (USN rollback)",
            "shut it down for good at its source before the conversion, and never start both",
        );
    }
}

/// BitLocker, of the system and of others.
pub(super) fn bitlocker(look: &Look<'_>, found: &mut Found) {
    let devices = &look.storage.devices;
    let own = devices.iter().any(|device| {
        device.name == look.guest.root && matches!(device.kind, DeviceKind::Crypt { .. })
    });
    let boot_status = look
        .control()
        .is_set("Control\\BitLockerStatus", "BootStatus");
    if own || boot_status {
        found.warning(
            "its volume is encrypted by BitLocker; a key that is sealed in the TPM of the source is lost, and the recovery password is asked for at the first start",
            "run `manage-bde -protectors -disable C: -RebootCount 0` in it before the conversion, and have the recovery password at hand",
        );
    }
    let locked = devices.iter().any(|device| {
        let opened = |other: &types::BlockDevice| matches!(&other.kind, DeviceKind::Crypt { parent } if *parent == device.name);
        device.content.eq_ignore_ascii_case("BitLocker") && !devices.iter().any(opened)
    });
    if locked {
        found.info(
            "a volume that is encrypted by BitLocker is copied as it is; it asks for its password, or opens itself by a key on the system's volume",
            "",
        );
    }
}

/// Secure Boot and the TPM.
pub(super) fn secure_boot(look: &Look<'_>, found: &mut Found) {
    let control = look.control();
    if control.is_set("Control\\SecureBoot\\State", "UEFISecureBootEnabled") {
        found.info(
            "it ran with Secure Boot; drivers need signatures of Microsoft then, which test builds of virtio-win do not have",
            "",
        );
    }
    // The TPM 2.0 of every vendor has this id (Microsoft, "TPM 2.0 ACPI").
    if control.has("Enum\\ACPI\\MSFT0101") {
        found.info(
            "it had a TPM; keys in it (Windows Hello, certificates, BitLocker) stay behind",
            "",
        );
    }
}

/// Activation that hangs on the hardware.
pub(super) fn licence(look: &Look<'_>, found: &mut Found) {
    let id = look
        .software()
        .text("Microsoft\\Windows NT\\CurrentVersion", "ProductId");
    if id.is_some_and(|id| id.contains("-OEM-")) {
        found.info(
            "its licence was sold with the hardware (OEM) and is bound to it; it may ask to be activated again",
            "keep the SMBIOS strings of the source, and have another product key at hand",
        );
    }
}
