//! Systems whose files come from an image: what is changed in them, what stays, and what is lost at the next update.

use types::Severity;

use super::{Found, Look};

/// Kinds of such systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    /// ostree, rpm-ostree, bootc: `/usr` is a checkout, `/etc` is merged at each update.
    Ostree,
    /// Flatcar and the Container Linux before it: `/usr` is a partition sealed by dm-verity.
    Flatcar,
    /// NixOS: everything is made from /etc/nixos.
    NixOs,
    /// MicroOS, SLE Micro, Leap Micro: the root is a read-only snapshot of btrfs.
    Transactional,
    /// Ubuntu Core: kernel and system are snaps.
    UbuntuCore,
    /// overlayroot: what is written at run time is thrown away.
    Overlayroot,
    /// Alpine run from memory, configured by an apkovl archive.
    Diskless,
}

fn kind(look: &Look<'_>) -> Option<Image> {
    let root = look.root;
    let labelled = |name: &str| {
        let devices = look.devices.storage().devices.iter();
        devices
            .filter_map(|device| device.partlabel.as_deref())
            .any(|label| label == name)
    };
    let active = |text: String| {
        let mut values = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("overlayroot=").map(str::to_owned));
        values
            .next_back()
            .is_some_and(|value| !value.trim_matches('"').is_empty() && !value.contains("disabled"))
    };
    if look.has_karg("ostree") || root.is_dir("/ostree/repo") || root.is_dir("/sysroot/ostree/repo")
    {
        Some(Image::Ostree)
    } else if labelled("USR-A") && labelled("OEM") {
        Some(Image::Flatcar)
    } else if look.guest.distro == "nixos"
        || (root.is_dir("/nix/store") && root.exists("/etc/NIXOS"))
    {
        Some(Image::NixOs)
    } else if look.any_file(&["/usr/sbin/transactional-update"]) && read_only_root(look) {
        Some(Image::Transactional)
    } else if look.guest.distro == "ubuntu-core" || look.has_karg("snapd_recovery_mode") {
        Some(Image::UbuntuCore)
    } else if root.text("/etc/overlayroot.conf").is_some_and(active) {
        Some(Image::Overlayroot)
    } else if root.names("/media").is_empty()
        && root.is_file("/etc/lbu/lbu.conf")
        && look.has_karg("modloop")
    {
        Some(Image::Diskless)
    } else {
        None
    }
}

fn read_only_root(look: &Look<'_>) -> bool {
    let text = look.root.text("/etc/fstab").unwrap_or_default();
    crate::linux::fstab::parse(&text)
        .iter()
        .any(|entry| entry.target == "/" && entry.has("ro"))
}

/// One concern for each.
pub(super) fn look(look: &Look<'_>, found: &mut Found) {
    let Some(kind) = kind(look) else { return };
    let (severity, what, fix) = match kind {
        Image::Ostree => (
            Severity::Warning,
            "the system is a deployment of ostree (bootc, rpm-ostree): /etc, the boot entries and the initramfs of the \
             present deployments are changed, and older deployments and the next update bring their own initramfs",
            "run `rpm-ostree initramfs --enable --arg=--add-drivers --arg='virtio_blk virtio_scsi virtio_pci virtio_net'` in \
             the new machine unless the image is built with virtio (those of Fedora, CentOS and RHEL are)",
        ),
        Image::Flatcar => (
            Severity::Warning,
            "this is Flatcar or Container Linux: /usr is sealed by dm-verity and stays as it is (its kernel has virtio); the OEM \
             partition still names the old platform",
            "in oem/grub.cfg on the OEM partition set oem_id=\"qemu\" (it becomes flatcar.oem.id and ignition.platform.id), and remove \
             the old platform's system extension from /etc/extensions",
        ),
        Image::NixOs => (
            Severity::Warning,
            "this is NixOS: boot entries and /etc are made from its configuration, and changes to them are lost at the next rebuild",
            "add to configuration.nix: boot.initrd.availableKernelModules = [ \"virtio_pci\" \"virtio_blk\" \"virtio_scsi\" \"virtio_net\" ]; \
             services.qemuGuest.enable = true; and take virtualisation.vmware.guest or its like out",
        ),
        Image::Transactional => (
            Severity::Info,
            "the root is a read-only snapshot (transactional-update): the present snapshot is changed, older ones are not",
            "do not roll back to a snapshot from before the conversion; run `transactional-update initrd` for a new one",
        ),
        Image::UbuntuCore => (
            Severity::Warning,
            "this is Ubuntu Core: kernel and system are signed snaps that are not changed",
            "its kernel snap has virtio; if it does not start, convert with --compat",
        ),
        Image::Overlayroot => (
            Severity::Info,
            "overlayroot is on: what is written while the guest runs is thrown away, and the conversion changes what lies below",
            "scripts of the first start run at every start until overlayroot is switched off once",
        ),
        Image::Diskless => (
            Severity::Warning,
            "Alpine runs from memory: its configuration is in an apkovl archive that is not changed",
            "convert with --compat; the boot media of Alpine have virtio",
        ),
    };
    found.add(severity, what, Some(fix));
}
