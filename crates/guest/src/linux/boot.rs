//! Boot loaders: which there are, and which kernel they start.

use types::{BootLoader, Mountpoint};

use crate::Root;
use crate::linux::os_release::unquote;
use crate::root::join;

/// Where grub.cfg of GRUB 2 is.
pub(crate) const GRUB_DIRS: [&str; 2] = ["/boot/grub", "/boot/grub2"];
/// grub.cfg nests submenus two or three deep.
const MENU_DEPTH_MAX: usize = 16;

/// Mount point of the EFI system partition, where one with an EFI directory is mounted.
pub(crate) fn esp(root: &Root, mountpoints: &[Mountpoint]) -> Option<String> {
    mountpoints
        .iter()
        .filter(|mount| matches!(mount.fs_type.as_str(), "vfat" | "msdos"))
        .map(|mount| mount.path.clone())
        .find(|path| find_ci(root, path, "EFI").is_some())
}

/// Path of `below` in `dir`, each component found in whatever case it has: an ESP is FAT, which ignores case, but
/// the appliance may see it through a file system that does not.
pub(crate) fn find_ci(root: &Root, dir: &str, below: &str) -> Option<String> {
    let mut at = dir.to_owned();
    for part in below.split('/').filter(|part| !part.is_empty()) {
        let name = root
            .names(&at)
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(part))?;
        at = join(&at, &name);
    }
    Some(at)
}

/// The boot loaders found, UEFI ones first.
pub(crate) fn boot_loaders(root: &Root, mountpoints: &[Mountpoint]) -> Vec<BootLoader> {
    let mut loaders = Vec::new();
    let mut add = |kind: &str, config: Option<String>| {
        loaders.push(BootLoader {
            kind: kind.to_owned(),
            config,
        })
    };
    let grub_cfg = grub_cfg(root);
    let esp = esp(root, mountpoints);
    let mut grub_efi = false;
    if let Some(esp) = &esp {
        for vendor in vendors(root, esp) {
            let names = root.names(&vendor);
            let has = |prefix: &str| {
                names.iter().any(|name| {
                    let lower = name.to_ascii_lowercase();
                    lower.starts_with(prefix) && lower.ends_with(".efi")
                })
            };
            if (has("grub") || has("shim")) && !grub_efi {
                grub_efi = true;
                let own = find_ci(root, &vendor, "grub.cfg");
                add("grub2-efi", grub_cfg.clone().or(own));
            }
            if has("systemd-boot") {
                add("systemd-boot", find_ci(root, esp, "loader/loader.conf"));
            }
            if has("bootmgfw") {
                add("windows-efi", None);
            }
        }
    }
    let bios = GRUB_DIRS
        .iter()
        .any(|dir| root.is_dir(&format!("{dir}/i386-pc")));
    if bios || (grub_cfg.is_some() && esp.is_none()) {
        add("grub2-bios", grub_cfg);
    }
    for config in ["/boot/grub/menu.lst", "/boot/grub/grub.conf"] {
        if root.is_file(config) && root.exists("/boot/grub/stage2") {
            add("grub-legacy", Some(config.to_owned()));
            break;
        }
    }
    for config in [
        "/boot/extlinux/extlinux.conf",
        "/boot/extlinux.conf",
        "/boot/syslinux/syslinux.cfg",
    ] {
        if root.is_file(config) {
            add("extlinux", Some(config.to_owned()));
        }
    }
    loaders
}

/// Directories below EFI on the ESP.
pub(crate) fn vendors(root: &Root, esp: &str) -> Vec<String> {
    let Some(efi) = find_ci(root, esp, "EFI") else {
        return Vec::new();
    };
    let names = root.names(&efi);
    names
        .iter()
        .map(|name| join(&efi, name))
        .filter(|path| root.is_dir(path))
        .collect()
}

/// The main grub.cfg of GRUB 2.
pub(crate) fn grub_cfg(root: &Root) -> Option<String> {
    GRUB_DIRS
        .iter()
        .map(|dir| format!("{dir}/grub.cfg"))
        .find(|path| root.is_file(path))
}

/// One entry of a GRUB menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MenuEntry {
    title: String,
    id: String,
    kernel: Option<String>,
    children: Vec<MenuEntry>,
}

/// Base name of the kernel that GRUB 2 or a BLS loader starts by default.
pub(crate) fn default_kernel(root: &Root) -> Option<String> {
    let cfg = root.text(&grub_cfg(root)?)?;
    let saved = GRUB_DIRS
        .iter()
        .find_map(|dir| saved_entry(&root.text(&format!("{dir}/grubenv"))?));
    let menu = parse_menu(&cfg);
    let wanted = default_entry(&cfg)
        .or_else(|| saved.clone())
        .unwrap_or_else(|| "0".into());
    let kernel = pick(&menu, &wanted).or_else(|| bls_kernel(root, saved.as_deref()))?;
    // Debian's menu may name /vmlinuz, a link to the newest kernel.
    let target = root
        .read_link(&join("/", &kernel))
        .or_else(|_| root.read_link(&join("/boot", &kernel)));
    let path = target.unwrap_or(kernel);
    path.rsplit('/').next().map(str::to_owned)
}

/// The last literal `set default=`; Debian's file sets it from `next_entry` in one branch and literally in the other.
fn default_entry(cfg: &str) -> Option<String> {
    cfg.lines()
        .filter_map(|line| line.trim().strip_prefix("set default="))
        .map(unquote)
        .rfind(|value| !value.is_empty() && !value.contains('$'))
}

fn saved_entry(grubenv: &str) -> Option<String> {
    let value = grubenv
        .lines()
        .find_map(|line| line.strip_prefix("saved_entry="))?;
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

fn parse_menu(cfg: &str) -> Vec<MenuEntry> {
    // Open blocks, innermost last; the first is the menu itself. A block that is no entry (function) has no title.
    let mut open: Vec<(bool, MenuEntry)> = vec![(true, MenuEntry::default())];
    for line in cfg.lines().map(str::trim) {
        let word = line.split_whitespace().next().unwrap_or_default();
        if line.ends_with('{') && open.len() < MENU_DEPTH_MAX {
            let is_entry = matches!(word, "menuentry" | "submenu");
            open.push((
                is_entry,
                if is_entry {
                    menu_entry(line)
                } else {
                    MenuEntry::default()
                },
            ));
        } else if line == "}" && open.len() > 1 {
            if let Some((true, entry)) = open.pop()
                && let Some((_, parent)) = open.last_mut()
            {
                parent.children.push(entry);
            }
        } else if matches!(word, "linux" | "linux16" | "linuxefi")
            && let Some((_, entry)) = open.last_mut()
            && entry.kernel.is_none()
        {
            entry.kernel = line.split_whitespace().nth(1).map(str::to_owned);
        }
    }
    open.into_iter()
        .next()
        .map(|(_, menu)| menu.children)
        .unwrap_or_default()
}

fn menu_entry(line: &str) -> MenuEntry {
    let quoted = |text: &str| {
        let start = text.find(['\'', '"'])?;
        let quote = text.get(start..)?.chars().next()?;
        let rest = text.get(start + 1..)?;
        Some(rest.get(..rest.find(quote)?)?.to_owned())
    };
    let id = ["$menuentry_id_option", "--id"]
        .iter()
        .find_map(|option| quoted(line.split_once(option)?.1));
    MenuEntry {
        title: quoted(line).unwrap_or_default(),
        id: id.unwrap_or_default(),
        ..MenuEntry::default()
    }
}

/// Follows `1>Advanced>…`: each part a number, a title or an id.
fn pick(menu: &[MenuEntry], wanted: &str) -> Option<String> {
    let mut level = menu;
    let mut entry = None;
    for part in wanted.split('>') {
        let by_number = part
            .parse::<usize>()
            .ok()
            .and_then(|index| level.get(index));
        let found = by_number.or_else(|| {
            level
                .iter()
                .find(|entry| entry.title == part || entry.id == part)
        })?;
        level = &found.children;
        entry = Some(found);
    }
    let mut entry = entry?;
    while entry.kernel.is_none() {
        entry = entry.children.first()?;
    }
    entry.kernel.clone()
}

/// Kernel of a Boot Loader Specification entry: the saved one, else the last by name.
fn bls_kernel(root: &Root, saved: Option<&str>) -> Option<String> {
    let dir = "/boot/loader/entries";
    let names = root.names(dir);
    let confs: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".conf"))
        .collect();
    let is_saved = |name: &&&String| name.strip_suffix(".conf") == saved;
    let name = confs
        .iter()
        .find(is_saved)
        .or_else(|| confs.iter().rfind(|name| !name.contains("rescue")))?;
    let text = root.text(&join(dir, name))?;
    text.lines().find_map(|line| {
        Some(
            line.trim()
                .strip_prefix("linux")?
                .split_whitespace()
                .next()?
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CFG: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
function load_video {
  insmod all_video
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	linux	/boot/vmlinuz-6.1.0-18-amd64 root=/dev/sda1 ro
	initrd	/boot/initrd.img-6.1.0-18-amd64
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, with Linux 6.1.0-17-amd64' --class debian $menuentry_id_option 'gnulinux-6.1.0-17' {
		linux	/boot/vmlinuz-6.1.0-17-amd64 root=/dev/sda1 ro
	}
}
"#;

    #[test]
    fn the_default_entry_is_found_by_number_title_and_id() {
        let menu = parse_menu(CFG);
        assert_eq!(menu.len(), 2);
        assert_eq!(default_entry(CFG).as_deref(), Some("0"));
        assert_eq!(
            pick(&menu, "0").as_deref(),
            Some("/boot/vmlinuz-6.1.0-18-amd64")
        );
        assert_eq!(
            pick(&menu, "gnulinux-advanced-1>gnulinux-6.1.0-17").as_deref(),
            Some("/boot/vmlinuz-6.1.0-17-amd64")
        );
        assert_eq!(
            pick(&menu, "1>0").as_deref(),
            Some("/boot/vmlinuz-6.1.0-17-amd64")
        );
        assert_eq!(
            pick(&menu, "1").as_deref(),
            Some("/boot/vmlinuz-6.1.0-17-amd64")
        );
        assert_eq!(pick(&menu, "Advanced options>9"), None);
    }
}
