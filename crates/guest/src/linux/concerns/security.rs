//! What is bound to the old machine or to the bytes of files: TPM, integrity measurement, logins.

use super::{Found, Look};

/// Keys sealed by a TPM: the new machine's TPM, if it has one, is another, so that none of them unseals.
pub(super) fn tpm(look: &Look<'_>, found: &mut Found) {
    let crypttab = look.root.text("/etc/crypttab").unwrap_or_default();
    let enrolled = crypttab.lines().any(|line| {
        let line = line.trim();
        !line.starts_with('#') && line.contains("tpm2-device=")
    }) || look.kargs.iter().any(|karg| karg.contains("tpm2-device="));
    let fix = Some(
        "have a passphrase or recovery key at hand for the first start, then enrol the new machine's TPM",
    );
    if enrolled {
        found.warning(
            "an encrypted volume is opened by the TPM (systemd-cryptenroll): its key does not unseal in the new machine",
            fix,
        );
    }
    let encrypted = look
        .devices
        .storage()
        .devices
        .iter()
        .any(|device| device.content == "crypto_LUKS");
    let clevis = look.any_file(&[
        "/usr/bin/clevis-luks-unlock",
        "/usr/libexec/clevis-luks-askpass",
        "/usr/bin/clevis",
    ]);
    if encrypted && clevis {
        found.warning(
            "clevis opens encrypted volumes: what it has bound to the TPM does not unseal in the new machine, and what \
             it has bound to a Tang server needs the network in the initramfs",
            fix,
        );
    }
}

/// Mechanisms that notice changed files.
pub(super) fn integrity(look: &Look<'_>, found: &mut Found) {
    let enforces = look.kargs.iter().any(|karg| {
        matches!(
            karg.as_str(),
            "ima_appraise=enforce" | "ima_policy=appraise_tcb"
        )
    });
    if enforces || look.any_file(&["/etc/ima/ima-policy"]) {
        found.warning(
            "IMA appraises files: those that the conversion changes have no signature any more",
            Some("start with ima_appraise=fix once, or sign the files in the report again"),
        );
    }
    let sealed = [
        "roothash",
        "usrhash",
        "systemd.verity",
        "dm-mod.create",
        "verity.usrhash",
    ];
    if sealed.iter().any(|name| look.has_karg(name)) {
        found.warning(
            "a file system is sealed by dm-verity: nothing on it is changed, and one that was changed would not start",
            None,
        );
    }
    if super::grub_cfg(look.root).is_some_and(|text| {
        text.lines()
            .any(|line| line.trim() == "set check_signatures=enforce")
    }) {
        found.warning(
            "GRUB checks the signatures of its files: the changed initramfs and configuration have none any more",
            Some("sign them again with the guest's key, or switch check_signatures off before the conversion"),
        );
    }
    let esps = ["/boot/efi", "/efi", "/boot"];
    let unified = esps.iter().any(|esp| {
        let images = look.root.names(&format!("{esp}/EFI/Linux"));
        images
            .iter()
            .any(|name| name.to_ascii_lowercase().ends_with(".efi"))
    });
    if unified {
        found.warning(
            "unified kernel images are in use: kernel, initramfs and arguments are one (perhaps signed) file that is not changed",
            Some("if it lacks virtio, convert with --compat, add virtio_blk and virtio_pci to its initramfs in the new machine, build it again and change the buses"),
        );
    }
    if look.has_karg("fips") && !look.kargs.iter().any(|karg| karg == "fips=0") {
        found.info(
            "FIPS mode is on: it checks the kernel image and its cryptography, which stay as they are",
            None,
        );
    }
}

/// Accounts that can log in at the new machine's console, which is the way in when the network does not come up.
pub(super) fn logins(look: &Look<'_>, found: &mut Found) {
    let Some(shadow) = look.root.text("/etc/shadow") else {
        return;
    };
    let usable = |line: &str| {
        let hash = line.split(':').nth(1).unwrap_or("*");
        hash.starts_with('$') || (hash.len() == 13 && !hash.starts_with(['!', '*']))
    };
    if !shadow.lines().any(usable) {
        found.info(
            "no account has a password: at the console nobody can log in, only by the keys of SSH",
            Some("set one at the conversion: --root-password"),
        );
    }
}
