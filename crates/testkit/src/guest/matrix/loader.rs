//! The boot loader's own files, as installers and kernel hooks of its kind leave them.

use super::files::File;
use super::plan::{Id, Plan};
use super::{Fs, Generator, Loader, MatrixGuest, Names, Stack};
use crate::guest::config::MD_UUID;

/// Stands for `uname -r`, which is known only when the tree exists.
pub(super) const KERNEL: &str = "@KERNEL@";
const TITLE: &str = "Debian GNU/Linux";

/// `root=` and what the initramfs needs to find it.
pub(super) fn kargs(guest: &MatrixGuest, plan: &Plan) -> String {
    let mut words = vec![
        format!("root={}", super::files::root_device(guest, plan)),
        "ro".to_owned(),
    ];
    if guest.fs == Fs::Btrfs {
        words.push("rootflags=subvol=@".to_owned());
    }
    if guest.stack.has_lvm() {
        words.push("resume=/dev/mapper/vg0-swap".to_owned());
    }
    if guest.generator == Generator::Dracut {
        match guest.stack {
            Stack::Plain => {}
            // As Anaconda writes them: dracut waits for the swap of resume= too, and activates only what is named.
            Stack::Lvm | Stack::LvmOnLuks => {
                words.extend(["root", "swap"].map(|lv| format!("rd.lvm.lv=vg0/{lv}")));
            }
            Stack::Luks => {}
            Stack::Md => words.push(format!("rd.md.uuid={}", md_uuid())),
        }
        if guest.stack.is_encrypted() {
            let uuid = plan.uuid(Id::Luks);
            words.push(format!("rd.luks.name={uuid}={}", super::disk::MAPPED));
        }
        // The default of three minutes is long for a machine that has all its disks at once.
        words.push("rd.retry=20".to_owned());
    }
    words.push("console=tty0 console=ttyS0,115200n8".to_owned());
    words.join(" ")
}

/// As mdadm writes it: four words.
pub(super) fn md_uuid() -> String {
    let words: Vec<&str> = [0, 8, 16, 24]
        .iter()
        .map(|&at| &MD_UUID[at..at + 8])
        .collect();
    words.join(":")
}

/// Where the boot loader sees `/boot`.
fn boot_dir(guest: &MatrixGuest, plan: &Plan) -> &'static str {
    match (plan.boot, guest.fs) {
        (Some(_), _) => "",
        (None, Fs::Btrfs) => "/@/boot",
        (None, _) => "/boot",
    }
}

/// UUID of the file system with `/boot`.
fn boot_uuid(plan: &Plan) -> String {
    plan.uuid(if plan.boot.is_some() {
        Id::Boot
    } else {
        Id::Root
    })
}

/// The loader's configuration inside the guest.
pub(super) fn files(guest: &MatrixGuest, plan: &Plan) -> Vec<File> {
    let args = kargs(guest, plan);
    match guest.loader {
        Loader::GrubCfg => vec![
            File::new("/boot/grub/grub.cfg", grub_cfg(guest, plan, &args)),
            File::new("/boot/grub/grubenv", grubenv("")),
            File::new("/etc/default/grub", default_grub(guest, &args)),
        ],
        Loader::Bls => bls(guest, plan, &args),
        Loader::SystemdBoot => vec![
            File::new("/etc/kernel/cmdline", format!("{args}\n")),
            File::new("/etc/kernel/entry-token", "debian\n"),
        ],
        Loader::Extlinux => vec![File::new("/boot/extlinux/extlinux.conf", extlinux(&args))],
        Loader::GrubLegacy => vec![
            File::new("/boot/grub/menu.lst", menu_lst(&args)),
            File::new("/boot/grub/device.map", "(hd0)\t/dev/sda\n"),
        ],
    }
}

/// Files on the ESP that build.sh does not make.
pub(super) fn esp_files(guest: &MatrixGuest, plan: &Plan) -> Vec<File> {
    match guest.loader {
        Loader::GrubCfg | Loader::Bls => vec![File::new(
            "/EFI/debian/grub.cfg",
            format!(
                "search.fs_uuid {} root\nset prefix=($root)'{}/grub'\nconfigfile $prefix/grub.cfg\n",
                boot_uuid(plan),
                boot_dir(guest, plan)
            ),
        )],
        Loader::SystemdBoot => vec![
            File::new(
                "/loader/loader.conf",
                "default debian-*\ntimeout 1\nconsole-mode keep\n",
            ),
            File::new(
                format!("/loader/entries/debian-{KERNEL}.conf"),
                format!(
                    "# As kernel-install writes it\ntitle      {TITLE}\nversion    {KERNEL}\nmachine-id {}\n\
                     sort-key   debian\noptions    {}\nlinux      /debian/{KERNEL}/linux\n\
                     initrd     /debian/{KERNEL}/initrd.img-{KERNEL}\n",
                    plan.uuid(Id::Machine).replace('-', ""),
                    kargs(guest, plan)
                ),
            ),
        ],
        Loader::Extlinux | Loader::GrubLegacy => vec![],
    }
}

/// Prefix inside GRUB's core image.
pub(super) fn grub_prefix(guest: &MatrixGuest, plan: &Plan) -> String {
    if guest.uefi {
        return "/EFI/debian".to_owned();
    }
    let dir = boot_dir(guest, plan);
    match (plan.boot, guest.stack) {
        (Some(part), _) => format!("(hd0,msdos{}){dir}/grub", part.number),
        (None, Stack::Md) => format!("(mduuid/{MD_UUID}){dir}/grub"),
        (None, _) => format!("(hd0,msdos{}){dir}/grub", plan.root.number),
    }
}

/// Modules of GRUB's core image: with BIOS what finds the prefix, with UEFI all, since the ESP has none.
pub(super) fn grub_modules(guest: &MatrixGuest) -> String {
    let storage = match guest.fs {
        Fs::F2fs => "part_msdos part_gpt ext2 f2fs",
        _ => "part_msdos part_gpt ext2 xfs btrfs diskfilter mdraid1x",
    };
    match (guest.uefi, guest.loader) {
        (false, _) => format!("biosdisk {storage}"),
        (true, loader) => format!(
            "{storage} fat search search_fs_uuid configfile normal linux echo test serial terminal minicmd ls cat \
             boot chain reboot halt loadenv gzio{}",
            if loader == Loader::Bls { " blsuki" } else { "" }
        ),
    }
}

fn head() -> String {
    "if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nset default=\"0\"\n\
     if [ x\"${feature_menuentry_id}\" = xy ]; then\n  menuentry_id_option=\"--id\"\nelse\n  menuentry_id_option=\"\"\nfi\n\
     export menuentry_id_option\n\
     serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset timeout=1\n\n"
        .to_owned()
}

/// `search`, and before it a guess that holds on the old machine.
fn search(guest: &MatrixGuest, plan: &Plan) -> String {
    let part = plan.boot.unwrap_or(plan.root);
    let hint = match (plan.boot, guest.stack, guest.uefi) {
        (None, Stack::Md, _) => format!("mduuid/{MD_UUID}"),
        (_, _, true) => format!("hd0,gpt{}", part.number),
        (_, _, false) => format!("hd0,msdos{}", part.number),
    };
    let uuid = boot_uuid(plan);
    format!(
        "set root='{hint}'\n\
         \tif [ x$feature_platform_search_hint = xy ]; then\n\
         \t  search --no-floppy --fs-uuid --set=root --hint='{hint}' {uuid}\n\
         \telse\n\t  search --no-floppy --fs-uuid --set=root {uuid}\n\tfi\n"
    )
}

/// In the shape of update-grub's: header, one entry, and the same again with recovery in a submenu.
fn grub_cfg(guest: &MatrixGuest, plan: &Plan, args: &str) -> String {
    let (dir, search) = (boot_dir(guest, plan), search(guest, plan));
    let fs = match (plan.boot, guest.fs) {
        (Some(_), _) | (None, Fs::Ext4) => "ext2",
        (None, Fs::Xfs) => "xfs",
        (None, Fs::Btrfs) => "btrfs",
        (None, Fs::F2fs) => "f2fs",
    };
    let entry = |title: &str, id: &str, extra: &str| {
        format!(
            "menuentry '{title}' --class debian --class gnu-linux $menuentry_id_option '{id}' {{\n\
             \tinsmod gzio\n\tinsmod {fs}\n\t{search}\
             \techo 'Loading Linux {KERNEL} ...'\n\tlinux {dir}/vmlinuz-{KERNEL} {args}{extra}\n\
             \techo 'Loading initial ramdisk ...'\n\tinitrd {dir}/initrd.img-{KERNEL}\n}}\n"
        )
    };
    format!(
        "# Made by grub-mkconfig from /etc/grub.d and /etc/default/grub.\n{}\
         ### BEGIN /etc/grub.d/10_linux ###\n{}submenu 'Advanced options for {TITLE}' $menuentry_id_option \
         'gnulinux-advanced-menu' {{\n{}{}}}\n### END /etc/grub.d/10_linux ###\n",
        head(),
        entry(TITLE, "gnulinux-simple", ""),
        entry(
            &format!("{TITLE}, with Linux {KERNEL}"),
            "gnulinux-advanced",
            ""
        ),
        entry(
            &format!("{TITLE}, with Linux {KERNEL} (recovery mode)"),
            "gnulinux-recovery",
            " single"
        ),
    )
}

fn default_grub(guest: &MatrixGuest, args: &str) -> String {
    let own: Vec<&str> = args
        .split(' ')
        .filter(|word| {
            !word.starts_with("root=") && !word.starts_with("rootflags=") && *word != "ro"
        })
        .collect();
    let names = match guest.names {
        Names::Kernel => "GRUB_DISABLE_LINUX_UUID=true\n",
        Names::Uuid | Names::Label => "",
    };
    format!(
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
         GRUB_CMDLINE_LINUX=\"{}\"\nGRUB_TERMINAL=\"console serial\"\n\
         GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n{names}",
        own.join(" ")
    )
}

/// Two flavours: arguments in the entry, and `$kernelopts` from the environment block as in RHEL 8.
fn bls(guest: &MatrixGuest, plan: &Plan, args: &str) -> Vec<File> {
    let machine = plan.uuid(Id::Machine).replace('-', "");
    let shared = guest.uefi;
    let options = if shared { "$kernelopts" } else { args };
    let entry = format!(
        "title {TITLE} ({KERNEL})\nversion {KERNEL}\nlinux /vmlinuz-{KERNEL}\ninitrd /initrd.img-{KERNEL}\n\
         options {options}\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class debian\n"
    );
    let set = if shared {
        format!("kernelopts={args}\n")
    } else {
        String::new()
    };
    let cfg = format!(
        "# Made by grub-mkconfig; the entries are in /boot/loader/entries.\n{}{}\n### BEGIN /etc/grub.d/10_linux ###\n\
         insmod blsuki\nblscfg\n### END /etc/grub.d/10_linux ###\n",
        head(),
        search(guest, plan)
    );
    let default = default_grub(guest, args) + "GRUB_ENABLE_BLSCFG=true\n";
    vec![
        File::new(
            format!("/boot/loader/entries/{machine}-{KERNEL}.conf"),
            entry,
        ),
        File::new("/boot/grub/grub.cfg", cfg),
        File::new("/boot/grub/grubenv", grubenv(&set)),
        File::new("/etc/default/grub", default),
    ]
}

/// As extlinux.conf of an installer: paths are relative to the file's own folder.
fn extlinux(args: &str) -> String {
    format!(
        "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nTIMEOUT 10\n\nLABEL linux\n\tMENU LABEL {TITLE}, kernel {KERNEL}\n\
         \tLINUX ../vmlinuz-{KERNEL}\n\tINITRD ../initrd.img-{KERNEL}\n\tAPPEND {args}\n\n\
         LABEL linuxr\n\tMENU LABEL {TITLE}, kernel {KERNEL} (recovery mode)\n\tLINUX ../vmlinuz-{KERNEL}\n\
         \tINITRD ../initrd.img-{KERNEL}\n\tAPPEND {args} single\n"
    )
}

/// As Debian's update-grub of that time: the marks of the automatic list are comments that it reads.
fn menu_lst(args: &str) -> String {
    let entry = |title: &str, extra: &str| {
        format!(
            "title\t\t{title}\nroot\t\t(hd0,0)\nkernel\t\t/vmlinuz-{KERNEL} {args}{extra}\ninitrd\t\t/initrd.img-{KERNEL}\n\n"
        )
    };
    format!(
        "# menu.lst - See: grub(8), info grub, update-grub(8)\n\ndefault\t\t0\ntimeout\t\t1\n\
         serial --unit=0 --speed=115200\nterminal --timeout=1 serial console\n\n\
         ### BEGIN AUTOMAGIC KERNELS LIST\n# kopt={args}\n# groot=(hd0,0)\n## ## End Default Options ##\n\n{}{}\
         ### END DEBIAN AUTOMAGIC KERNELS LIST\n",
        entry(&format!("{TITLE}, kernel {KERNEL}"), ""),
        entry(
            &format!("{TITLE}, kernel {KERNEL} (single-user mode)"),
            " single"
        )
    )
}

/// GRUB's environment block: exactly 1024 bytes, filled with `#` (GRUB manual, "The GRUB environment block").
fn grubenv(set: &str) -> String {
    let mut text = format!("# GRUB Environment Block\n{set}");
    text += &"#".repeat(1024_usize.saturating_sub(text.len()));
    text
}
