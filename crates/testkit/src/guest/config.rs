//! The configuration files of a sample guest: what Debian's installer and a VMware administrator leave behind.
//!
//! Every device is named by its kernel name, as on machines that grew up before UUIDs or had `GRUB_DISABLE_LINUX_UUID` set.

use std::net::Ipv4Addr;

use super::Sample;

pub(super) const STATIC_IP: Ipv4Addr = Ipv4Addr::new(10, 11, 12, 13);
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 11, 12, 1);
pub(super) const ROOT_PASSWORD: &str = "v2v";
/// Seconds since 1970 used wherever a time would make two builds differ: 2023-11-14.
pub(super) const EPOCH: &str = "1700000000";

pub(super) const ROOT_UUID: &str = "5a3d1f00-aaaa-4000-8000-00000000000a";
pub(super) const BOOT_UUID: &str = "5a3d1f00-bbbb-4000-8000-00000000000b";
pub(super) const SWAP_UUID: &str = "5a3d1f00-cccc-4000-8000-00000000000c";
/// FAT volume id, and the same as blkid shows it.
pub(super) const ESP_ID: &str = "5A3D1F0E";
const ESP_UUID: &str = "5A3D-1F0E";

/// Stands for `uname -r`, which is known only when the tree exists.
const KERNEL: &str = "@KERNEL@";

/// UUID of the array, as GRUB and mdadm write it.
pub(super) const MD_UUID: &str = "5a3d1f04aaaa40008000000000000004";

/// The modules that the initramfs gets: those of VMware's controllers and of SATA, none of virtio.
const INITRAMFS_MODULES: &str =
    "ata_piix\nahci\nsd_mod\nsr_mod\nmptspi\nmptsas\nvmw_pvscsi\next4\n";

/// Modules of GRUB's core image: what finds the prefix; the rest is loaded from there.
pub(super) const BIOS_GRUB_MODULES: &str = "biosdisk part_msdos ext2";
/// The same where the prefix is on an array.
pub(super) const MD_GRUB_MODULES: &str = "biosdisk part_msdos diskfilter mdraid1x ext2";
/// The same for UEFI: Debian's image carries its modules, since the ESP has none.
pub(super) const EFI_GRUB_MODULES: &str = "part_gpt part_msdos fat ext2 search search_fs_uuid configfile normal linux echo \
     test all_video gfxterm serial terminal minicmd ls cat boot chain reboot halt loadenv gzio";

/// The texts of one sample.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) which: Sample,
    root_device: &'static str,
    swap_device: &'static str,
}

impl Recipe {
    pub(super) fn of(which: Sample) -> Self {
        let (root_device, swap_device) = match which {
            Sample::Bios => ("/dev/sda1", "/dev/sda5"),
            Sample::Uefi => ("/dev/sda2", "/dev/sda3"),
            Sample::Lvm => ("/dev/mapper/vg0-root", "/dev/mapper/vg0-swap"),
            Sample::Md => ("/dev/md0", "/dev/sda5"),
        };
        Self {
            which,
            root_device,
            swap_device,
        }
    }

    /// Prefix inside GRUB's core image.
    pub(super) fn grub_prefix(&self) -> &'static str {
        match self.which {
            Sample::Bios => "(hd0,msdos1)/boot/grub",
            Sample::Uefi => "/EFI/debian",
            Sample::Lvm => "(hd0,msdos1)/grub",
            Sample::Md => "(mduuid/5a3d1f04aaaa40008000000000000004)/boot/grub",
        }
    }

    /// Format and modules of GRUB's core image.
    pub(super) fn grub_image(&self) -> (&'static str, &'static str) {
        match self.which {
            Sample::Uefi => ("x86_64-efi", EFI_GRUB_MODULES),
            Sample::Bios | Sample::Lvm => ("i386-pc", BIOS_GRUB_MODULES),
            Sample::Md => ("i386-pc", MD_GRUB_MODULES),
        }
    }

    /// What is installed over the shared tree.
    pub(super) fn packages(&self) -> &'static str {
        match self.which {
            Sample::Md => "mdadm",
            Sample::Bios | Sample::Uefi | Sample::Lvm => "",
        }
    }

    /// `/EFI/debian/grub.cfg`: finds the real one, as Debian's does.
    pub(super) fn esp_grub_cfg() -> String {
        format!(
            "search.fs_uuid {ROOT_UUID} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
        )
    }

    /// Everything that decides what the guest contains, for the cache key.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{EPOCH} {BOOT_UUID} {SWAP_UUID} {ESP_ID} {} {BIOS_GRUB_MODULES} {EFI_GRUB_MODULES}\n",
            self.grub_prefix()
        );
        for (path, content) in self.files(KERNEL) {
            text += &format!("=== {path}\n{content}");
        }
        text + &Self::esp_grub_cfg()
    }

    /// Path inside the guest and content of every file that differs from the freshly installed tree.
    pub(super) fn files(&self, kernel: &str) -> Vec<(&'static str, String)> {
        let name = self.which.name();
        let mut files = vec![
            ("etc/fstab", self.fstab()),
            ("etc/hostname", format!("{name}\n")),
            (
                "etc/hosts",
                format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n"),
            ),
            (
                "etc/machine-id",
                format!("5a3d1f00000040008000{:012x}\n", self.which as u8 + 1),
            ),
            ("etc/resolv.conf", format!("nameserver {GATEWAY}\n")),
            ("etc/network/interfaces", interfaces()),
            (
                "etc/ssh/sshd_config.d/sample.conf",
                "PermitRootLogin yes\n".to_owned(),
            ),
            (
                "etc/initramfs-tools/modules",
                format!(
                    "# The drivers of the machine that this was installed on.\n{INITRAMFS_MODULES}{}",
                    if self.which == Sample::Md {
                        "md_mod\nraid1\n"
                    } else {
                        ""
                    }
                ),
            ),
            (
                "etc/initramfs-tools/conf.d/resume",
                format!("RESUME={}\n", self.swap_device),
            ),
            ("etc/default/grub", self.default_grub()),
            ("boot/grub/grub.cfg", self.grub_cfg(kernel)),
            ("boot/grub/grubenv", grubenv()),
        ];
        if self.which != Sample::Uefi {
            files.push(("boot/grub/device.map", "(hd0)\t/dev/sda\n".to_owned()));
        }
        if self.which == Sample::Md {
            files.push(("etc/mdadm/mdadm.conf", mdadm_conf()));
        }
        files
    }

    fn fstab(&self) -> String {
        let mut text = "# <file system> <mount point> <type> <options> <dump> <pass>\n".to_owned();
        text += &format!("{} / ext4 errors=remount-ro 0 1\n", self.root_device);
        match self.which {
            Sample::Bios | Sample::Md => {}
            Sample::Uefi => text += &format!("UUID={ESP_UUID} /boot/efi vfat umask=0077 0 1\n"),
            Sample::Lvm => text += "/dev/sda1 /boot ext4 defaults 0 2\n",
        }
        text += &format!("{} none swap sw 0 0\n", self.swap_device);
        text + "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
    }

    fn kargs(&self) -> String {
        format!(
            "console=tty0 console=ttyS0,115200n8 resume={}",
            self.swap_device
        )
    }

    fn default_grub(&self) -> String {
        format!(
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
             GRUB_CMDLINE_LINUX=\"{}\"\nGRUB_TERMINAL=\"console serial\"\n\
             GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n\
             # Device names, as on every machine of this site: root={}\nGRUB_DISABLE_LINUX_UUID=true\n",
            self.kargs(),
            self.root_device
        )
    }

    /// In the shape of update-grub's: header, one entry, and the same again with recovery in a submenu.
    fn grub_cfg(&self, kernel: &str) -> String {
        let entry = |title: &str, id: &str, extra: &str| {
            let (dir, fs_uuid, device, part_module) = match self.which {
                Sample::Bios => ("/boot", ROOT_UUID, "hd0,msdos1", "part_msdos"),
                Sample::Md => (
                    "/boot",
                    ROOT_UUID,
                    "mduuid/5a3d1f04aaaa40008000000000000004",
                    "part_msdos\n\tinsmod diskfilter\n\tinsmod mdraid1x",
                ),
                Sample::Uefi => ("/boot", ROOT_UUID, "hd0,gpt2", "part_gpt"),
                Sample::Lvm => ("", BOOT_UUID, "hd0,msdos1", "part_msdos"),
            };
            format!(
                "menuentry '{title}' --class debian --class gnu-linux $menuentry_id_option '{id}' {{\n\
                 \tinsmod gzio\n\tinsmod {part_module}\n\tinsmod ext2\n\tset root='{device}'\n\
                 \tif [ x$feature_platform_search_hint = xy ]; then\n\
                 \t  search --no-floppy --fs-uuid --set=root --hint='{device}' {fs_uuid}\n\
                 \telse\n\t  search --no-floppy --fs-uuid --set=root {fs_uuid}\n\tfi\n\
                 \techo 'Loading Linux {kernel} ...'\n\
                 \tlinux {dir}/vmlinuz-{kernel} root={} ro {extra}{}\n\
                 \techo 'Loading initial ramdisk ...'\n\tinitrd {dir}/initrd.img-{kernel}\n}}\n",
                self.root_device,
                self.kargs()
            )
        };
        let first = entry("Debian GNU/Linux", "gnulinux-simple", "");
        let again = entry(
            &format!("Debian GNU/Linux, with Linux {kernel}"),
            "gnulinux-advanced",
            "",
        );
        let recovery = entry(
            &format!("Debian GNU/Linux, with Linux {kernel} (recovery mode)"),
            "gnulinux-recovery",
            "single ",
        );
        format!(
            "# Made by grub-mkconfig from /etc/grub.d and /etc/default/grub.\n\
             if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nset default=\"0\"\n\
             if [ x\"${{feature_menuentry_id}}\" = xy ]; then\n  menuentry_id_option=\"--id\"\nelse\n  menuentry_id_option=\"\"\nfi\n\
             export menuentry_id_option\n\
             serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset timeout=1\n\n\
             ### BEGIN /etc/grub.d/10_linux ###\n{first}submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option \
             'gnulinux-advanced-menu' {{\n{again}{recovery}}}\n### END /etc/grub.d/10_linux ###\n"
        )
    }
}

/// As Debian's mkconf writes it.
fn mdadm_conf() -> String {
    let words: Vec<&str> = [0, 8, 16, 24]
        .iter()
        .map(|&at| &MD_UUID[at..at + 8])
        .collect();
    format!(
        "HOMEHOST <system>\nMAILADDR root\n\nARRAY /dev/md/0 metadata=1.2 UUID={} name=sample-md:0\n",
        words.join(":")
    )
}

fn interfaces() -> String {
    format!(
        "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\n\
         # The primary network interface\nallow-hotplug ens192\niface ens192 inet static\n\taddress {STATIC_IP}/24\n\tgateway {GATEWAY}\n"
    )
}

/// GRUB's environment block: exactly 1024 bytes, filled with `#` (GRUB manual, "The GRUB environment block").
fn grubenv() -> String {
    let mut text = "# GRUB Environment Block\n".to_owned();
    text += &"#".repeat(1024 - text.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lvm_root_is_not_a_partition_name() {
        for which in Sample::ALL {
            let recipe = Recipe::of(which);
            let cfg = recipe.grub_cfg("6.1.0-1-amd64");
            assert_eq!(
                cfg.matches(&format!("root={} ro", recipe.root_device))
                    .count(),
                3,
                "{cfg}"
            );
            assert!(recipe.fstab().contains("/dev/sda") || which == Sample::Lvm);
            assert!(!recipe.text().contains("virtio"));
        }
        assert_eq!(grubenv().len(), 1024);
        assert!(Recipe::of(Sample::Lvm).fstab().contains("/dev/sda1 /boot"));
    }
}
