//! The configuration of a matrix guest: what an installer and a VMware administrator leave behind.

use super::disk::MAPPED;
use super::loader::{self, KERNEL, md_uuid};
use super::plan::{Id, Part, Plan};
use super::{Fs, Generator, MatrixGuest, Names, Network, Stack};
use crate::guest::config::{GATEWAY, STATIC_IP};

/// What the initramfs gets: VMware's controllers and SATA, none of virtio.
pub(super) const DRIVERS: &str = "ata_piix ahci sd_mod sr_mod mptspi mptsas vmw_pvscsi";
/// Secrets are for root only.
const PRIVATE: u32 = 0o600;

/// A file of the guest: absolute path, mode, content. `@KERNEL@` in path and content is the kernel's version.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: String,
}

impl File {
    pub(super) fn new(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            content: content.into(),
        }
    }

    fn private(path: &str, content: impl Into<String>) -> Self {
        Self {
            mode: PRIVATE,
            ..Self::new(path, content)
        }
    }

    /// The same for a kernel.
    pub(super) fn of_kernel(&self, kernel: &str) -> Self {
        Self {
            path: self.path.replace(KERNEL, kernel),
            mode: self.mode,
            content: self.content.replace(KERNEL, kernel),
        }
    }
}

/// Everything that decides what the guest contains, for the cache key.
pub(super) fn text(guest: &MatrixGuest, plan: &Plan) -> String {
    let all = files(guest, plan)
        .into_iter()
        .chain(loader::esp_files(guest, plan));
    all.map(|file| format!("=== {} {:o}\n{}", file.path, file.mode, file.content))
        .collect()
}

/// Every file that differs from what the packages bring.
pub(super) fn files(guest: &MatrixGuest, plan: &Plan) -> Vec<File> {
    let name = guest.name;
    let mut files = vec![
        File::new("/etc/fstab", fstab(guest, plan)),
        File::new("/etc/hostname", format!("{name}\n")),
        File::new(
            "/etc/hosts",
            format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n"),
        ),
        File::new(
            "/etc/machine-id",
            format!("{}\n", plan.uuid(Id::Machine).replace('-', "")),
        ),
        File::new("/etc/resolv.conf", format!("nameserver {GATEWAY}\n")),
    ];
    files.extend(network(guest.network));
    files.extend(initramfs(guest));
    if guest.stack == Stack::Md {
        files.push(File::new("/etc/mdadm/mdadm.conf", mdadm_conf()));
    }
    if guest.stack.is_encrypted() {
        files.push(File::new("/etc/crypttab", crypttab(guest, plan)));
    }
    files.extend(loader::files(guest, plan));
    files
}

/// A partition in the guest's own way of naming; `label` is its file system's.
fn named(guest: &MatrixGuest, part: Part, uuid: &str, label: &str) -> String {
    match guest.names {
        Names::Uuid => format!("UUID={uuid}"),
        Names::Label => format!("LABEL={label}"),
        Names::Kernel => format!("/dev/sda{}", part.number),
    }
}

/// What `root=` and fstab say.
pub(super) fn root_device(guest: &MatrixGuest, plan: &Plan) -> String {
    match (guest.stack, guest.names) {
        (Stack::Lvm | Stack::LvmOnLuks, _) => "/dev/mapper/vg0-root".to_owned(),
        (Stack::Luks, _) => format!("/dev/mapper/{MAPPED}"),
        (Stack::Md, Names::Kernel) => "/dev/md0".to_owned(),
        (Stack::Md | Stack::Plain, _) => named(guest, plan.root, &plan.uuid(Id::Root), "root"),
    }
}

fn fstab(guest: &MatrixGuest, plan: &Plan) -> String {
    let mut text = "# <file system> <mount point> <type> <options> <dump> <pass>\n".to_owned();
    let root = root_device(guest, plan);
    text += &match guest.fs {
        Fs::Ext4 => format!("{root} / ext4 errors=remount-ro 0 1\n"),
        Fs::Xfs => format!("{root} / xfs defaults 0 0\n"),
        Fs::F2fs => format!("{root} / f2fs defaults,noatime 0 1\n"),
        Fs::Btrfs => format!(
            "{root} / btrfs defaults,compress=zstd:1,subvol=@ 0 0\n{root} /home btrfs defaults,compress=zstd:1,subvol=@home 0 0\n"
        ),
    };
    if let Some(boot) = plan.boot {
        let device = named(guest, boot, &plan.uuid(Id::Boot), "boot");
        text += &format!("{device} /boot {} defaults 0 2\n", boot_fs(guest));
    }
    if let Some(esp) = plan.esp {
        let (high, low) = (&plan.esp_id()[..4], &plan.esp_id()[4..]);
        let device = named(guest, esp, &format!("{high}-{low}"), "ESP");
        text += &format!("{device} /boot/efi vfat umask=0077 0 1\n");
    }
    if guest.stack.has_lvm() {
        text += "/dev/mapper/vg0-swap none swap sw 0 0\n";
    }
    text + "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
}

/// GRUB 0.97 reads no extents.
pub(super) fn boot_fs(guest: &MatrixGuest) -> &'static str {
    match guest.loader {
        super::Loader::GrubLegacy => "ext2",
        _ => "ext4",
    }
}

fn crypttab(guest: &MatrixGuest, plan: &Plan) -> String {
    // `initramfs`: the hook cannot see on which volume the root lies while the guest is being made.
    let options = match guest.generator {
        Generator::InitramfsTools => "luks,discard,initramfs",
        Generator::Dracut => "luks,discard",
    };
    format!(
        "# <target name> <source device> <key file> <options>\n{MAPPED} UUID={} none {options}\n",
        plan.uuid(Id::Luks)
    )
}

/// What crypttab names the encrypted partition by, once the initramfs is made; empty where that is the UUID.
pub(super) fn crypt_source(guest: &MatrixGuest, plan: &Plan) -> String {
    match (guest.stack.is_encrypted(), guest.names) {
        (true, Names::Kernel) => format!("/dev/sda{}", plan.root.number),
        _ => String::new(),
    }
}

fn mdadm_conf() -> String {
    format!(
        "HOMEHOST <system>\nMAILADDR root\n\nARRAY /dev/md/0 metadata=1.2 UUID={} name=sample-md:0\n",
        md_uuid()
    )
}

fn initramfs(guest: &MatrixGuest) -> Vec<File> {
    let drivers = format!("{DRIVERS} {}", guest.fs.name());
    match guest.generator {
        Generator::InitramfsTools => {
            let mut modules = drivers.replace(' ', "\n") + "\ncrc32c_generic\n";
            if guest.fs == Fs::F2fs {
                modules += "crc32_generic\n";
            }
            if guest.stack == Stack::Md {
                modules += "md_mod\nraid1\n";
            }
            if guest.stack.is_encrypted() {
                // The hook looks at this host's processor; the guest's has no AES instructions.
                modules += "dm_crypt\naes_generic\nxts\necb\nsha256_generic\nalgif_skcipher\n";
            }
            let resume = if guest.stack.has_lvm() {
                "/dev/mapper/vg0-swap"
            } else {
                "none"
            };
            vec![
                File::new(
                    "/etc/initramfs-tools/modules",
                    format!("# The drivers of the machine that this was installed on.\n{modules}"),
                ),
                File::new(
                    "/etc/initramfs-tools/conf.d/driver-policy",
                    "MODULES=list\n",
                ),
                File::new(
                    "/etc/initramfs-tools/conf.d/resume",
                    format!("RESUME={resume}\n"),
                ),
            ]
        }
        Generator::Dracut => vec![File::new(
            "/etc/dracut.conf.d/10-site.conf",
            "hostonly=\"yes\"\nhostonly_cmdline=\"no\"\n",
        )],
    }
}

fn network(network: Network) -> Vec<File> {
    match network {
        Network::Ifupdown => vec![File::new(
            "/etc/network/interfaces",
            format!(
                "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\n\
                 # The primary network interface\nallow-hotplug ens192\niface ens192 inet static\n\
                 \taddress {STATIC_IP}/24\n\tgateway {GATEWAY}\n"
            ),
        )],
        Network::NetworkManager => vec![File::private(
            "/etc/NetworkManager/system-connections/ens192.nmconnection",
            format!(
                "[connection]\nid=ens192\nuuid=5a3d0000-0192-4000-8000-000000000192\ntype=ethernet\n\
                 interface-name=ens192\n\n[ethernet]\n\n[ipv4]\naddress1={STATIC_IP}/24,{GATEWAY}\nmethod=manual\n\n\
                 [ipv6]\naddr-gen-mode=default\nmethod=disabled\n\n[proxy]\n"
            ),
        )],
        Network::Netplan => vec![File::private(
            "/etc/netplan/01-netcfg.yaml",
            format!(
                "# The machine's only interface.\nnetwork:\n  version: 2\n  renderer: networkd\n  ethernets:\n    ens192:\n\
                 \x20     addresses: [{STATIC_IP}/24]\n      routes:\n        - to: 0.0.0.0/0\n          via: {GATEWAY}\n"
            ),
        )],
        Network::Networkd => vec![File::new(
            "/etc/systemd/network/10-ens192.network",
            format!(
                "[Match]\nName=ens192\n\n[Network]\nAddress={STATIC_IP}/24\nGateway={GATEWAY}\nLinkLocalAddressing=no\n"
            ),
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::super::MATRIX;
    use super::*;

    #[test]
    fn no_guest_knows_of_virtio_and_each_names_what_it_has() {
        for guest in &MATRIX {
            let plan = Plan::of(guest);
            let text = text(guest, &plan);
            assert!(!text.contains("virtio"), "{}", guest.name);
            assert!(text.contains(&STATIC_IP.to_string()), "{}", guest.name);
            assert_eq!(text.contains("/etc/crypttab"), guest.stack.is_encrypted());
            assert_eq!(text.contains("subvol=@home"), guest.fs == Fs::Btrfs);
            let fstab = fstab(guest, &plan);
            assert_eq!(fstab.contains(" /boot/efi "), guest.uefi, "{fstab}");
        }
    }
}
