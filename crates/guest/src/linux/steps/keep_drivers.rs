//! Leaves configuration behind so that the guest's own next rebuild of its initramfs keeps the virtio drivers: for every
//! generator that is installed, whichever runs next.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::os_release::unquote;
use crate::root::join;

/// What a virtio root needs, as generators want to be told.
const DRIVERS: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"];
/// Without these no virtio root at all.
const REQUIRED: [&str; 2] = ["virtio_pci", "virtio_blk"];
const WHY: &str = "the next rebuild of the initramfs keeps the virtio drivers";

/// One generator: programs of which one is there, and what is done for it.
struct Generator {
    programs: &'static [&'static str],
    keep: fn(&mut Context<'_>, &[&str]) -> Result<()>,
}

const GENERATORS: [Generator; 8] = [
    Generator {
        programs: &["/usr/sbin/update-initramfs", "/usr/sbin/mkinitramfs"],
        keep: initramfs_tools,
    },
    Generator {
        programs: &["/usr/bin/dracut", "/sbin/dracut", "/usr/sbin/dracut"],
        keep: dracut,
    },
    Generator {
        programs: &["/usr/bin/mkinitcpio", "/sbin/mkinitcpio"],
        keep: mkinitcpio,
    },
    Generator {
        programs: &["/sbin/mkinitfs", "/usr/sbin/mkinitfs"],
        keep: mkinitfs,
    },
    Generator {
        programs: &["/sbin/mkinitrd", "/usr/bin/mkinitrd", "/usr/sbin/mkinitrd"],
        keep: mkinitrd,
    },
    Generator {
        programs: &["/usr/bin/booster", "/usr/lib/booster/init"],
        keep: booster,
    },
    Generator {
        programs: &["/usr/bin/genkernel", "/usr/sbin/genkernel"],
        keep: genkernel,
    },
    Generator {
        programs: &["/usr/sbin/make-initrd", "/usr/bin/make-initrd"],
        keep: make_initrd,
    },
];

pub(crate) fn applies(context: &Context<'_>) -> bool {
    !context.guest.kernels.is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let drivers: Vec<&str> = DRIVERS
        .into_iter()
        .filter(|name| is_wanted(context, name))
        .collect();
    if drivers.is_empty() {
        context
            .recorder
            .not_needed("no kernel has virtio drivers as modules");
        return Ok(());
    }
    let root = context.root;
    let there = |generator: &&Generator| generator.programs.iter().any(|path| root.is_file(path));
    let found: Vec<&Generator> = GENERATORS.iter().filter(there).collect();
    if found.is_empty() {
        context
            .recorder
            .not_needed("nothing is installed that builds an initramfs");
    }
    for generator in found {
        (generator.keep)(context, &drivers)?;
    }
    Ok(())
}

/// A module of at least one kernel, and no hindrance to others: naming a built-in driver makes some generators fail, and
/// so does one that a kernel does not have.
fn is_wanted(context: &Context<'_>, name: &str) -> bool {
    let mut all = context.modules.values();
    let some = context
        .modules
        .values()
        .any(|modules| modules.is_loadable(name));
    some && (REQUIRED.contains(&name) || all.all(|modules| modules.has(name)))
}

/// Blanks inside the quotes are part of the format (dracut.conf(5)).
fn dracut(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    let text = format!(
        "# Written by v2v: {WHY}.\nadd_drivers+=\" {} \"\n",
        drivers.join(" ")
    );
    let path = "/etc/dracut.conf.d/v2v-virtio.conf";
    context.recorder.write(path, text.as_bytes(), WHY)?;
    Ok(())
}

/// A file of our own where mkinitcpio 36 or later reads such, and the list in every other configuration: presets may
/// name their own (`ALL_config=`), which is read alone.
fn mkinitcpio(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    let root = context.root;
    let mut configs = Vec::new();
    let main = "/etc/mkinitcpio.conf";
    if root.is_dir("/etc/mkinitcpio.conf.d") {
        let text = format!(
            "# Written by v2v: {WHY}.\nMODULES+=({})\n",
            drivers.join(" ")
        );
        let path = "/etc/mkinitcpio.conf.d/v2v-virtio.conf";
        context.recorder.write(path, text.as_bytes(), WHY)?;
    } else {
        configs.push(main.to_owned());
    }
    let presets = "/etc/mkinitcpio.d";
    for name in root.names(presets) {
        let text = root.text(&join(presets, &name)).unwrap_or_default();
        let named = text.lines().filter_map(|line| {
            let (key, value) = line.trim().split_once('=')?;
            key.ends_with("_config").then(|| unquote(value))
        });
        configs.extend(named.filter(|path| path.starts_with('/') && path != main));
    }
    configs.sort();
    configs.dedup();
    for path in configs {
        context
            .recorder
            .edit(&path, WHY, |text| add_to_list(text, "MODULES=", drivers))?;
    }
    Ok(())
}

/// A feature of our own, because what the package's feature `virtio` holds has changed over time.
fn mkinitfs(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    let config = "/etc/mkinitfs/mkinitfs.conf";
    if !context.root.is_file(config) {
        return Ok(());
    }
    let globs = drivers.iter().filter_map(|name| {
        let mut all = context.modules.values();
        let path = all.find_map(|modules| modules.relative_path(name))?;
        let (stem, _) = path.rsplit_once(".ko")?;
        Some(format!("{stem}.ko*\n"))
    });
    let text: String = globs.collect();
    let path = "/etc/mkinitfs/features.d/v2v.modules";
    context.recorder.write(path, text.as_bytes(), WHY)?;
    let mut features = vec!["v2v"];
    if context
        .root
        .is_file("/etc/mkinitfs/features.d/virtio.modules")
    {
        features.insert(0, "virtio");
    }
    context.recorder.edit(config, WHY, |text| {
        add_to_list(text, "features=", &features)
    })?;
    Ok(())
}

/// openSUSE's `INITRD_MODULES="a b"`. Red Hat's mkinitrd goes by the aliases in modprobe.conf: the step `module-aliases`.
fn mkinitrd(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    context
        .recorder
        .edit("/etc/sysconfig/kernel", WHY, |text| {
            add_to_list(text, "INITRD_MODULES=", drivers)
        })?;
    Ok(())
}

fn booster(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    let path = "/etc/booster.yaml";
    let old = context.root.text(path).unwrap_or_default();
    if let Some(new) = booster_list(&old, drivers) {
        context.recorder.write(path, new.as_bytes(), WHY)?;
    }
    Ok(())
}

/// `modules_force_load: a,b` (booster(1)).
fn booster_list(text: &str, drivers: &[&str]) -> Option<String> {
    let key = "modules_force_load:";
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line
        .and_then(|line| line.strip_prefix(key))
        .unwrap_or_default();
    let (value, comment) = value.split_once(" #").unwrap_or((value, ""));
    let have: Vec<&str> = value
        .split(',')
        .map(|word| word.trim().trim_matches(['"', '\'']))
        .filter(|word| !word.is_empty())
        .collect();
    let new = drivers.iter().filter(|name| !have.contains(name)).copied();
    let all: Vec<&str> = have.iter().copied().chain(new).collect();
    if all.len() == have.len() {
        return None;
    }
    let comment = if comment.is_empty() {
        String::new()
    } else {
        format!(" #{comment}")
    };
    let new = format!("{key} {}{comment}", all.join(","));
    Some(match line {
        Some(line) => text.replacen(line, &new, 1),
        None if text.is_empty() || text.ends_with('\n') => format!("{text}{new}\n"),
        None => format!("{text}\n{new}\n"),
    })
}

/// genkernel's own list `MODULES_VIRTIO` has them; only one that the administrator wrote may not.
fn genkernel(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    context.recorder.edit("/etc/genkernel.conf", WHY, |text| {
        add_to_list(text, "MODULES_VIRTIO=", drivers)
    })?;
    Ok(())
}

/// ALT's make-initrd reads its configuration as a makefile.
fn make_initrd(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    let line = format!("MODULES_ADD += {}", drivers.join(" "));
    context.recorder.edit("/etc/initrd.mk", WHY, |text| {
        let there = text.lines().any(|old| old == line);
        let newline = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        (!there).then(|| format!("{text}{newline}{line}\n"))
    })?;
    Ok(())
}

/// /etc/initramfs-tools/modules: a module a line; comments stay.
fn initramfs_tools(context: &mut Context<'_>, drivers: &[&str]) -> Result<()> {
    let path = "/etc/initramfs-tools/modules";
    if !context.root.is_file(path) {
        context
            .recorder
            .write(path, format!("{}\n", drivers.join("\n")).as_bytes(), WHY)?;
        return Ok(());
    }
    context
        .recorder
        .edit(path, WHY, |text| append_modules(text, drivers))?;
    Ok(())
}

/// Appends the names that are no line's first word yet.
pub(crate) fn append_modules(text: &str, drivers: &[&str]) -> Option<String> {
    let have = |name: &&&str| {
        !text
            .lines()
            .any(|line| line.split_whitespace().next() == Some(**name))
    };
    let missing: Vec<&str> = drivers.iter().filter(have).copied().collect();
    if missing.is_empty() {
        return None;
    }
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{text}{newline}{}\n", missing.join("\n")))
}

/// Adds words to a list behind a key at the start of a line: `MODULES=(a b)`, `features="a b"`.
pub(crate) fn add_to_list(text: &str, key: &str, words: &[&str]) -> Option<String> {
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            let Some(value) = line.strip_prefix(key) else {
                return line.to_owned();
            };
            let is_quote = |c: char| matches!(c, '(' | ')' | '"' | '\'' | ' ' | '\t' | '\n');
            let have: Vec<&str> = value
                .split(is_quote)
                .filter(|word| !word.is_empty())
                .collect();
            let missing: Vec<&str> = words
                .iter()
                .filter(|word| !have.contains(word))
                .copied()
                .collect();
            let close = value.trim_end().rfind([')', '"', '\'']);
            match close {
                Some(at) if !missing.is_empty() => {
                    changed = true;
                    let (list, end) = value.split_at(at);
                    let blank = if list.len() > 1 { " " } else { "" };
                    format!("{key}{list}{blank}{}{end}", missing.join(" "))
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    changed.then(|| lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_by_what_they_lack() {
        assert_eq!(
            add_to_list("MODULES=()\n", "MODULES=", &["virtio_blk"]).as_deref(),
            Some("MODULES=(virtio_blk)\n")
        );
        assert_eq!(
            add_to_list("MODULES=\"ext4\"\n", "MODULES=", &["a", "b"]).as_deref(),
            Some("MODULES=\"ext4 a b\"\n")
        );
        assert_eq!(
            add_to_list("features=\"base virtio\"\n", "features=", &["virtio"]),
            None
        );
        assert_eq!(
            append_modules("# c\nlp", &["lp", "virtio_pci"]).as_deref(),
            Some("# c\nlp\nvirtio_pci\n")
        );
        assert_eq!(
            append_modules("lp\nvirtio_pci x=1\n", &["lp", "virtio_pci"]),
            None
        );
    }

    #[test]
    fn boosters_list_is_separated_by_commas() {
        let drivers = ["virtio_pci", "virtio_blk"];
        let new = booster_list("network:\n  dhcp: on\n", &drivers).unwrap();
        assert_eq!(
            new,
            "network:\n  dhcp: on\nmodules_force_load: virtio_pci,virtio_blk\n"
        );
        assert_eq!(booster_list(&new, &drivers), None);
        assert_eq!(
            booster_list(
                "modules_force_load: vmd, virtio_blk # mine\nuniversal: false\n",
                &drivers
            )
            .as_deref(),
            Some("modules_force_load: vmd,virtio_blk,virtio_pci # mine\nuniversal: false\n")
        );
    }
}
