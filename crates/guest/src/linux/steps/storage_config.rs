//! Configuration of LVM, md and multipath that looks for disks under the names that they had.

use regex::bytes::RegexBuilder;
use types::{BlockDevice, DeviceKind};

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::fstab;
use crate::linux::steps::leftovers::text::edit_with_backup;

/// Parts of names that a hypervisor or the order of disks gives.
const POSITIONAL: [&str; 9] = [
    "/sd", "/hd", "/xvd", "/vd", "nvme", "by-id", "by-path", "cciss", "dasd",
];
/// Memory for one compiled expression of lvm.conf.
const REGEX_MAX: usize = 1 << 20;

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    for path in ["/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf"] {
        lvm(context, path)?;
    }
    for path in ["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"] {
        let why = "names of disks change; arrays are found by their UUIDs";
        edit_with_backup(&mut context.recorder, path, why, mdadm)?;
    }
    multipath(context);
    crypttab(context);
    context.recorder.not_needed(
        "nothing in the configuration of LVM, md, multipath or crypttab names disks by their places",
    );
    Ok(())
}

/// Takes out a filter that would hide the new names of the physical volumes (lvm.conf(5), "devices/filter"); `None`
/// when there is none. The copy of the file in an initramfs needs the same.
pub(crate) fn lvm_conf(context: &Context<'_>, text: &str) -> Option<String> {
    let volumes: Vec<Vec<String>> = context
        .devices
        .storage()
        .devices
        .iter()
        .filter(|device| device.content == "LVM2_member")
        .filter_map(|device| new_names(context, device))
        .collect();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len());
    let mut left = lines.as_slice();
    while let Some((line, _)) = left.split_first() {
        let len = if is_filter(line) { array_len(left) } else { 1 };
        let (array, rest) = left.split_at(len.clamp(1, left.len()));
        let hides = is_filter(line) && hides_any(&array.concat(), &volumes);
        for line in array {
            if hides && !line.trim_start().starts_with('#') {
                out.push_str("# v2v: ");
            }
            out.push_str(line);
        }
        left = rest;
    }
    (out != text).then_some(out)
}

fn lvm(context: &mut Context<'_>, path: &str) -> Result<()> {
    let why = "a filter that accepts LVM's disks by their old names only";
    let old = match context.root.read(path, crate::CONFIG_MAX) {
        Err(error) if error.kind() == crate::ErrorKind::NotFound => return Ok(()),
        other => crate::recorder::from_bytes(&other?),
    };
    if let Some(new) = lvm_conf(context, &old) {
        edit_with_backup(&mut context.recorder, path, why, |_| Some(new))?;
    }
    Ok(())
}

/// Names under which udev shows a disk or partition on KVM; `None` for what is on another layer.
fn new_names(context: &Context<'_>, device: &BlockDevice) -> Option<Vec<String>> {
    let is_disk = matches!(
        device.kind,
        DeviceKind::Disk { .. } | DeviceKind::Partition { .. }
    );
    let mut names = vec![context.devices.renamed(device, context.disk_prefix)?];
    if let Some(uuid) = &device.uuid {
        names.push(format!("/dev/disk/by-id/lvm-pv-uuid-{uuid}"));
    }
    if let Some(partuuid) = &device.partuuid {
        names.push(format!("/dev/disk/by-partuuid/{partuuid}"));
    }
    is_disk.then_some(names)
}

fn is_filter(line: &str) -> bool {
    let key = line.split('=').next().unwrap_or_default().trim();
    line.contains('=') && matches!(key, "filter" | "global_filter" | "devices/filter")
}

/// Lines up to the one with the closing bracket outside of quotes.
fn array_len(lines: &[&str]) -> usize {
    let closes = |line: &&str| {
        let mut quoted = false;
        line.chars().any(|c| {
            quoted ^= c == '"';
            c == ']' && !quoted
        })
    };
    lines.iter().position(closes).map_or(1, |at| at + 1)
}

/// Each name of a device is judged by the first pattern that matches it; one accepted name is enough, and so is it
/// when none matches at all.
fn hides_any(array: &str, volumes: &[Vec<String>]) -> bool {
    let strings = array.split('"').skip(1).step_by(2);
    let patterns: Vec<(bool, &str)> = strings.filter_map(pattern).collect();
    let positional = |text: &str| {
        let bare = text.trim_start_matches(['^', '/']);
        let begins = ["sd", "hd", "xvd", "vd"]
            .iter()
            .any(|name| bare.starts_with(name));
        begins || POSITIONAL.iter().any(|part| text.contains(part))
    };
    let by_place = patterns
        .iter()
        .any(|(accepts, text)| *accepts && positional(text));
    let judge = |name: &str| {
        let found = patterns.iter().find(|(_, text)| is_match(text, name));
        found.map(|(accepts, _)| *accepts)
    };
    by_place
        && volumes.iter().any(|names| {
            let judged: Vec<bool> = names.iter().filter_map(|name| judge(name)).collect();
            !judged.is_empty() && !judged.contains(&true)
        })
}

/// `a|REGEX|` or `r|REGEX|` with any delimiter.
fn pattern(text: &str) -> Option<(bool, &str)> {
    let mut characters = text.chars();
    let accepts = match characters.next()? {
        'a' => true,
        'r' => false,
        _ => return None,
    };
    let close = match characters.next()? {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        same => same,
    };
    let rest = characters.as_str();
    Some((accepts, rest.strip_suffix(close).unwrap_or(rest)))
}

fn is_match(pattern: &str, name: &str) -> bool {
    let regex = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(REGEX_MAX)
        .build();
    regex.is_ok_and(|regex| regex.is_match(name.as_bytes()))
}

/// `DEVICE /dev/sd[ab]1` becomes `DEVICE partitions`, the default; `devices=` beside a UUID goes (mdadm.conf(5)).
fn mdadm(text: &str) -> Option<String> {
    let lines = text.split_inclusive('\n').map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((key, rest)) = words.split_first() else {
            return line.to_owned();
        };
        let positional = |word: &&str| POSITIONAL.iter().any(|part| word.contains(part));
        let key = key.to_ascii_uppercase();
        if key.len() >= 3 && "DEVICE".starts_with(&key) && rest.iter().any(positional) {
            return "DEVICE partitions\n".to_owned();
        }
        let named = |word: &&str| word.to_ascii_lowercase().starts_with("devices=");
        let by_uuid = rest
            .iter()
            .any(|word| word.to_ascii_lowercase().starts_with("uuid="));
        if key.len() >= 3 && "ARRAY".starts_with(&key) && by_uuid && rest.iter().any(named) {
            let kept: Vec<&str> = words.iter().filter(|word| !named(word)).copied().collect();
            return format!("{}\n", kept.join(" "));
        }
        line.to_owned()
    });
    Some(lines.collect())
}

/// Bindings of other WWIDs do no harm; what is mounted by such a name is not there any more.
fn multipath(context: &mut Context<'_>) {
    let fstab = context.root.text("/etc/fstab").unwrap_or_default();
    let named = fstab::parse(&fstab)
        .into_iter()
        .find(|entry| entry.spec.starts_with("/dev/mapper/mpath"));
    if let Some(entry) = named {
        context.recorder.warn(format!(
            "/etc/fstab mounts {} by a name of multipath, which has no paths here; give its UUID instead",
            entry.spec
        ));
    }
}

/// Names by place that no step could give another form.
fn crypttab(context: &mut Context<'_>) {
    let text = context.root.text("/etc/crypttab").unwrap_or_default();
    let lost: Vec<String> = fstab::fields(&text)
        .filter_map(|line| Some((*line.get(1)?).to_owned()))
        .filter(|spec| {
            context.devices.is_positional(spec) && context.devices.resolve(spec, None).is_none()
        })
        .collect();
    for spec in lost {
        context.recorder.warn(format!(
            "/etc/crypttab opens {spec}, which is none of the disks; it waits for it at boot unless it says nofail"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> Vec<Vec<String>> {
        vec![vec![
            "/dev/vda2".to_owned(),
            "/dev/disk/by-id/lvm-pv-uuid-abc".to_owned(),
        ]]
    }

    #[test]
    fn a_filter_is_judged_as_lvm_does() {
        for hiding in [
            r#"filter = [ "a|/dev/sda2|", "r|.*|" ]"#,
            r#"global_filter=["a/sd.*/", "r/.*/"]"#,
            "filter = [\n\t\"a|^/dev/disk/by-id/scsi-|\",\n\t\"r{.*}\"\n]",
        ] {
            assert!(hides_any(hiding, &volumes()), "{hiding}");
        }
        for fine in [
            r#"filter = [ "a|.*|" ]"#,
            r#"filter = [ "a|/dev/sda2|", "a|lvm-pv-uuid|", "r|.*|" ]"#,
            r#"filter = [ "r|/dev/sdb|", "a|.*|" ]"#,
            r#"filter = [ "a|/dev/[vs]da|", "r|.*|" ]"#,
            r#"filter = [ "r|/dev/drbd|" ]"#,
            r#"filter = [ "a|/dev/md|", "r|.*|" ]"#,
            r#"filter = [ "a|/dev/sd(|" ]"#,
        ] {
            assert!(!hides_any(fine, &volumes()), "{fine}");
        }
    }

    #[test]
    fn an_array_ends_at_its_bracket_and_not_in_a_string() {
        let lines = ["filter = [ \"a|[ab]|\",\n", "\"r|.*|\"\n", " ]\n", "x\n"];
        assert_eq!(array_len(&lines), 3);
        assert!(is_filter("\tglobal_filter = [ \"a|.*|\" ]"));
        assert!(!is_filter("# filter = [ ]") && !is_filter("use_filter=1"));
    }

    #[test]
    fn md_finds_its_members_anywhere() {
        let old = "# c\nDEVICE /dev/sda* /dev/sdb*\nARRAY /dev/md0 UUID=a:b devices=/dev/sda1,/dev/sdb1\nMAILADDR root\n";
        let new = mdadm(old).unwrap();
        assert_eq!(
            new,
            "# c\nDEVICE partitions\nARRAY /dev/md0 UUID=a:b\nMAILADDR root\n"
        );
        assert_eq!(mdadm(&new).unwrap(), new);
        let kept = "ARRAY /dev/md0 devices=/dev/sda1\nDEVICE partitions containers\n";
        assert_eq!(mdadm(kept).unwrap(), kept);
    }
}
