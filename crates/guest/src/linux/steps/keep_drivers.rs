//! Leaves configuration behind so that the guest's own next rebuild of its initramfs keeps the virtio drivers.

use crate::Result;
use crate::linux::convert::Context;

/// What a virtio root needs, as generators want to be told.
const DRIVERS: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"];
const WHY: &str = "the next rebuild of the initramfs keeps the virtio drivers";

pub(crate) fn applies(context: &Context<'_>) -> bool {
    !context.guest.initramfs_generator.is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let drivers: Vec<&str> = DRIVERS
        .into_iter()
        .filter(|name| as_module(context, name))
        .collect();
    if drivers.is_empty() {
        return Ok(());
    }
    match context.guest.initramfs_generator.as_str() {
        "initramfs-tools" => initramfs_tools(context, &drivers)?,
        "dracut" => {
            // Blanks inside the quotes are part of the format (dracut.conf(5)).
            let text = format!(
                "# Written by v2v: {WHY}.\nadd_drivers+=\" {} \"\n",
                drivers.join(" ")
            );
            context
                .recorder
                .write("/etc/dracut.conf.d/v2v-virtio.conf", text.as_bytes(), WHY)?;
        }
        "mkinitcpio" => {
            context.recorder.edit("/etc/mkinitcpio.conf", WHY, |text| {
                mkinitcpio(text, &drivers)
            })?;
        }
        "mkinitfs" => {
            context
                .recorder
                .edit("/etc/mkinitfs/mkinitfs.conf", WHY, mkinitfs)?;
        }
        "mkinitrd" => {
            context
                .recorder
                .edit("/etc/sysconfig/kernel", WHY, |text| {
                    mkinitrd(text, &drivers)
                })?;
        }
        _ => {}
    }
    Ok(())
}

/// A module of at least one kernel: naming a built-in driver makes some generators fail.
fn as_module(context: &Context<'_>, name: &str) -> bool {
    context
        .modules
        .values()
        .any(|modules| modules.has(name) && !modules.is_builtin(name))
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

/// `MODULES=(a b)` or, before 2019, `MODULES="a b"`.
fn mkinitcpio(text: &str, drivers: &[&str]) -> Option<String> {
    add_to_list(text, "MODULES=", drivers)
}

/// openSUSE's `INITRD_MODULES="a b"`.
fn mkinitrd(text: &str, drivers: &[&str]) -> Option<String> {
    add_to_list(text, "INITRD_MODULES=", drivers)
}

/// `features="ata base … virtio"`.
fn mkinitfs(text: &str) -> Option<String> {
    add_to_list(text, "features=", &["virtio"])
}

/// Adds words to a quoted list behind a key at the start of a line.
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
            mkinitcpio("MODULES=()\n", &["virtio_blk"]).as_deref(),
            Some("MODULES=(virtio_blk)\n")
        );
        assert_eq!(
            mkinitcpio("MODULES=\"ext4\"\n", &["a", "b"]).as_deref(),
            Some("MODULES=\"ext4 a b\"\n")
        );
        assert_eq!(mkinitfs("features=\"base virtio\"\n"), None);
        assert_eq!(
            append_modules("# c\nlp", &["lp", "virtio_pci"]).as_deref(),
            Some("# c\nlp\nvirtio_pci\n")
        );
        assert_eq!(
            append_modules("lp\nvirtio_pci x=1\n", &["lp", "virtio_pci"]),
            None
        );
    }
}
