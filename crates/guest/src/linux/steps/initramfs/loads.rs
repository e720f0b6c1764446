//! Lists of modules that an initramfs loads by name, as the second belt beside the aliases of devices, and the first one
//! for those that know no aliases.

use crate::linux::convert::Context;
use crate::linux::initrd::cpio::Builder;
use crate::linux::initrd::{Contents, Generator};
use crate::linux::modules::Modules;
use crate::linux::steps::keep_drivers::{add_to_list, append_modules};
use crate::recorder::{from_bytes, to_bytes};

use super::build::add_changed;
use super::depmod::Target;

/// systemd-modules-load(8) reads it.
const LOAD_LIST: &str = "etc/modules-load.d/v2v-virtio.conf";
/// Where booster keeps the aliases of the modules in the image, `pattern name` a line.
const BOOSTER_ALIASES: &str = "usr/lib/modules/booster.alias";

/// Adds what makes the initramfs load `forced`; `added` are all modules that were added.
pub(super) fn add(
    context: &mut Context<'_>,
    modules: &Modules,
    target: Target<'_>,
    forced: &[&str],
    added: &[String],
    builder: &mut Builder,
) {
    let contents = target.contents;
    let text = |path: &str| contents.kept.get(path).map(|content| from_bytes(content));
    let mut change = |path: &str, new: Option<String>| {
        if let Some(new) = new {
            add_changed(contents, builder, path, to_bytes(&new));
        }
    };
    let list = |path: &str| append_modules(&text(path).unwrap_or_default(), forced);
    match contents.generator {
        Generator::InitramfsTools => change("conf/modules", list("conf/modules")),
        // dracut.cmdline(7): loaded before udev is triggered.
        Generator::Dracut => {
            let args: Vec<String> = forced
                .iter()
                .map(|name| format!("rd.driver.pre={name}"))
                .collect();
            let new = format!("{}\n", args.join(" "));
            change("etc/cmdline.d/99-v2v-virtio.conf", Some(new));
        }
        // mkinitcpio's /init reads /config as a shell script and loads its MODULES first.
        Generator::Mkinitcpio if !contents.loads_lists => {
            let old = text("config").unwrap_or_default();
            let with_list = if old.lines().any(|line| line.starts_with("MODULES=")) {
                old
            } else {
                format!("{old}MODULES=\"\"\n")
            };
            change("config", add_to_list(&with_list, "MODULES=", forced));
        }
        // Alpine's /init loads the lines of /etc/modules before it looks for the root.
        Generator::Mkinitfs => change("etc/modules", list("etc/modules")),
        // The same list is a default of the script that runs all others.
        Generator::SuseMkinitrd => {
            for path in ["config/start.sh", "run_all.sh"] {
                let new = text(path).and_then(|old| suse(&old, forced));
                change(path, new);
            }
        }
        // genkernel's groups: those of `scsi` are always loaded, `virtio` since 3.4.
        Generator::Genkernel => {
            for path in ["etc/modules/virtio", "etc/modules/scsi"] {
                change(path, list(path));
            }
        }
        Generator::Booster => {
            let old = text("etc/booster.init.yaml").unwrap_or_default();
            let needs = |name: &String| (name.clone(), modules.needs(context.root, name));
            let needs: Vec<_> = added.iter().map(needs).collect();
            change("etc/booster.init.yaml", Some(booster(&old, forced, &needs)));
            let old = text(BOOSTER_ALIASES).unwrap_or_default();
            change(
                BOOSTER_ALIASES,
                Some(aliases(context, modules, &old, added)),
            );
        }
        Generator::Nash | Generator::Mkinitcpio | Generator::Unknown => {}
    }
    if contents.loads_lists {
        change(LOAD_LIST, list(LOAD_LIST));
    }
    warn_unknown(context, target.initrd, contents);
}

fn warn_unknown(context: &mut Context<'_>, initrd: &str, contents: &Contents) {
    let loads = contents.has_udev || contents.loads_lists;
    if contents.generator == Generator::Unknown && !loads {
        context.recorder.warn(format!(
            "{initrd} is made by an unknown program: virtio drivers were added to it, but whether it loads them is not \
             known; rebuild it in the guest if it does not start"
        ));
    }
}

/// `RESOLVED_INITRD_MODULES='…'` of config/start.sh, and the default of the same name in run_all.sh, which stands behind
/// a test on its line.
fn suse(text: &str, names: &[&str]) -> Option<String> {
    let key = "RESOLVED_INITRD_MODULES='";
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            let Some((before, list)) = line.split_once(key) else {
                return line.to_owned();
            };
            let (list, after) = list.split_once('\'').unwrap_or((list, ""));
            let have: Vec<&str> = list.split_whitespace().collect();
            let new: Vec<&str> = names
                .iter()
                .filter(|name| !have.contains(name))
                .copied()
                .collect();
            if new.is_empty() {
                return line.to_owned();
            }
            changed = true;
            // In front: drivers of disks come before what waits for disks.
            format!("{before}{key}{} {}'{after}", new.join(" "), have.join(" "))
        })
        .collect();
    changed.then(|| lines.concat())
}

/// booster.init.yaml is what Go's yaml writes of a structure: keys at the margin, maps indented.
fn booster(text: &str, forced: &[&str], needs: &[(String, Vec<String>)]) -> String {
    let with_needs = needs.iter().filter(|(_, needs)| !needs.is_empty());
    let entries: Vec<(String, String)> = with_needs
        .map(|(name, needs)| (name.clone(), format!("{name}: [{}]", needs.join(", "))))
        .collect();
    let text = yaml_insert(text, "moduledependencies:", &entries, "  ");
    let entries: Vec<(String, String)> = forced
        .iter()
        .map(|name| ((*name).to_owned(), format!("- {name}")))
        .collect();
    yaml_insert(&text, "modulesforceload:", &entries, "")
}

/// Puts entries behind a key at the margin, indented as those that follow it; those that are there already left out.
fn yaml_insert(text: &str, key: &str, entries: &[(String, String)], indent: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(key));
    let block: Vec<&str> = lines
        .iter()
        .skip(at.map_or(lines.len(), |at| at + 1))
        .take_while(|line| line.starts_with([' ', '-']))
        .copied()
        .collect();
    let indent = block.first().map_or(indent, |line| {
        line.strip_suffix(line.trim_start()).unwrap_or_default()
    });
    let there = |name: &str| {
        block.iter().any(|line| {
            let bare = line.strip_prefix(indent).unwrap_or(line);
            let bare = bare.strip_prefix("- ").unwrap_or(bare);
            bare.trim_end().trim_end_matches(':') == name || bare.starts_with(&format!("{name}:"))
        })
    };
    let new: Vec<String> = entries
        .iter()
        .filter(|(name, _)| !there(name))
        .map(|(_, entry)| format!("{indent}{entry}"))
        .collect();
    if new.is_empty() {
        return text.to_owned();
    }
    let mut out: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    match at {
        Some(at) => {
            if let Some(line) = out.get_mut(at) {
                key.clone_into(line);
            }
            out.splice(at + 1..at + 1, new);
        }
        None => {
            out.push(key.to_owned());
            out.extend(new);
        }
    }
    format!("{}\n", out.join("\n"))
}

/// Aliases of the added modules, from the kernel's own list (modules.alias: `alias PATTERN NAME`).
fn aliases(context: &Context<'_>, modules: &Modules, old: &str, added: &[String]) -> String {
    let path = crate::root::join(&modules.dir, "modules.alias");
    let list = context.root.text(&path).unwrap_or_default();
    let lines = list.lines().filter_map(|line| {
        let (pattern, name) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
        let wanted = added.iter().any(|added| added == name);
        wanted.then(|| format!("{pattern} {name}\n"))
    });
    let newline = if old.is_empty() || old.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{old}{newline}{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_suse_is_found_in_both_places() {
        let names = ["virtio_pci", "virtio_blk"];
        let start = "RESOLVED_INITRD_MODULES='mptspi ext3 edd'\nrootdev='/dev/sda2'\n";
        let new = suse(start, &names).unwrap();
        assert_eq!(
            new,
            "RESOLVED_INITRD_MODULES='virtio_pci virtio_blk mptspi ext3 edd'\nrootdev='/dev/sda2'\n"
        );
        assert_eq!(suse(&new, &names), None);
        let all = "[ \"$RESOLVED_INITRD_MODULES\" ] || RESOLVED_INITRD_MODULES='ext3'\nmodules=\" $RESOLVED_INITRD_MODULES\"\n";
        assert_eq!(
            suse(all, &["virtio_blk"]).as_deref(),
            Some(
                "[ \"$RESOLVED_INITRD_MODULES\" ] || RESOLVED_INITRD_MODULES='virtio_blk ext3'\nmodules=\" $RESOLVED_INITRD_MODULES\"\n"
            )
        );
    }

    #[test]
    fn boosters_yaml_keeps_its_shape() {
        let old = "moduledependencies:\n    ahci:\n        - libahci\n    sd_mod:\n        - scsi_mod\nkernel: 6.6.9-arch1-1\nmounttimeout: 180\n";
        let needs = [
            ("virtio_ring".to_owned(), vec![]),
            (
                "virtio_blk".to_owned(),
                vec!["virtio".to_owned(), "virtio_ring".into()],
            ),
            ("sd_mod".to_owned(), vec!["scsi_mod".to_owned()]),
        ];
        let new = booster(old, &["virtio_blk"], &needs);
        assert_eq!(
            new,
            "moduledependencies:\n    virtio_blk: [virtio, virtio_ring]\n    ahci:\n        - libahci\n    sd_mod:\n        - scsi_mod\n\
             kernel: 6.6.9-arch1-1\nmounttimeout: 180\nmodulesforceload:\n- virtio_blk\n"
        );
        assert_eq!(booster(&new, &["virtio_blk"], &needs), new);
        assert_eq!(
            booster("modulesforceload:\n- ahci\n", &["ahci", "virtio_pci"], &[]),
            "modulesforceload:\n- virtio_pci\n- ahci\n"
        );
    }
}
