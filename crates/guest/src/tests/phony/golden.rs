//! What a conversion says and does, as text for a golden file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use types::{ConvertOptions, ConvertOutcome, GuestInfo, StepOutcome};

use super::super::tree::Tree;
use crate::linux::initrd;

/// Content of a path as far as it is shown.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Link(String),
}

/// Scripts that are the same everywhere and tested elsewhere, and the lines of them that are shown.
const FIRST_BOOT: [(&str, &[&str]); 4] = [
    ("/v2v/firstboot/run", &[]),
    ("-install-guest-agent.again", &[]),
    (
        "-remove-tools.again",
        &[
            "packages='",
            "+# ",
            "    dpkg",
            "    rpm",
            "    apk",
            "    pacman",
            "    xbps",
            "    zypper",
            "    emerge",
        ],
    ),
    ("/v2v-firstboot.service", &["+ExecStart", "+WantedBy"]),
];

type Files = BTreeMap<String, Content>;

/// Calls `visit` with every path below, relative, and its full path; links are not followed.
pub(super) fn walk(top: &Path, below: &Path, visit: &mut dyn FnMut(&str, &Path)) {
    let mut names: Vec<_> = fs::read_dir(top.join(below))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let full = top.join(&path);
        visit(path.to_str().unwrap(), &full);
        if full.symlink_metadata().unwrap().is_dir() {
            walk(top, &path, visit);
        }
    }
}

fn files(tree: &Tree) -> Files {
    let mut files = Files::new();
    walk(tree.dir.path(), Path::new(""), &mut |path, full| {
        let kind = full.symlink_metadata().unwrap().file_type();
        let content = if kind.is_symlink() {
            Content::Link(fs::read_link(full).unwrap().display().to_string())
        } else if kind.is_file() {
            Content::File(fs::read(full).unwrap())
        } else {
            return;
        };
        files.insert(format!("/{path}"), content);
    });
    files
}

/// Members of an initramfs with their contents, the later of one name.
fn members(tree: &Tree, path: &str) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    let done = initrd::for_each(&tree.root(), path, &mut |member, data| {
        let mut content = Vec::new();
        data.read_to_end(&mut content)?;
        members.insert(member.name.clone(), content);
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{}", error.chain()));
    members
}

/// Converts, and converts again: the second time must change nothing.
pub(super) fn report(tree: &Tree, options: &ConvertOptions, initrds: &[String]) -> String {
    let before = files(tree);
    let old: Vec<_> = initrds.iter().map(|path| members(tree, path)).collect();
    let guest = tree.inspect();
    let mut text = String::new();
    describe(&mut text, &guest);
    let outcome = match tree.try_convert(options) {
        Ok(outcome) => outcome,
        Err(error) => {
            assert!(before == files(tree), "refused, and changed");
            let _ = writeln!(text, "\nrefused: {}", error.chain());
            return text;
        }
    };
    let after = files(tree);
    say(&mut text, &outcome);
    changes(&mut text, tree, &outcome, &before, &after, initrds);
    for (path, old) in initrds.iter().zip(&old) {
        initramfs(&mut text, path, old, &members(tree, path));
    }
    unrecorded(tree, &outcome, &before, &after);
    let again = tree.convert(options);
    assert_eq!(again.changes, [], "changed again");
    assert!(after == files(tree), "changed again, unrecorded");
    assert_eq!(again.caps, outcome.caps);
    text
}

fn describe(text: &mut String, guest: &GuestInfo) {
    let _ = writeln!(
        text,
        "{} ({} {}), like {:?}, osinfo {}\nhost {}, {:?}, init {}, initramfs by {}, packages {}\nselinux {}, agent {}, tools {:?}",
        guest.product_name,
        guest.distro,
        guest.version,
        guest.distro_like,
        guest.osinfo_id.as_deref().unwrap_or("-"),
        guest.hostname.as_deref().unwrap_or("-"),
        guest.arch,
        or_dash(&guest.init),
        or_dash(&guest.initramfs_generator),
        or_dash(&guest.package_format),
        guest.selinux,
        guest.has_guest_agent,
        guest.hypervisor_tools,
    );
    for loader in &guest.boot_loaders {
        let _ = writeln!(
            text,
            "loader {} {}",
            loader.kind,
            loader.config.as_deref().unwrap_or("-")
        );
    }
    for kernel in &guest.kernels {
        let flags = [
            ("default", kernel.is_default),
            ("blk", kernel.has_virtio_blk),
            ("scsi", kernel.has_virtio_scsi),
            ("net", kernel.has_virtio_net),
            ("initramfs-has-virtio", kernel.initrd_has_virtio),
        ];
        let flags: Vec<&str> = flags
            .iter()
            .filter_map(|(name, set)| set.then_some(*name))
            .collect();
        let _ = writeln!(
            text,
            "kernel {} {} {} [{}]",
            kernel.version,
            kernel.vmlinuz.as_deref().unwrap_or("-"),
            kernel.initrd.as_deref().unwrap_or("-"),
            flags.join(" ")
        );
    }
    for concern in &guest.concerns {
        let _ = writeln!(
            text,
            "concern {:?}: {} | {}",
            concern.severity,
            concern.what,
            concern.fix.as_deref().unwrap_or("-")
        );
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn say(text: &mut String, outcome: &ConvertOutcome) {
    text.push('\n');
    // What has no reason of its own is left out: a new step does not change every golden file.
    let plain = |step: &&types::StepReport| step.reason != "nothing of it is in this guest";
    for step in outcome.steps.iter().filter(plain) {
        let what = match step.outcome {
            StepOutcome::Applied => "applied",
            StepOutcome::NotNeeded => "not needed",
            StepOutcome::Skipped => "SKIPPED",
        };
        let _ = match step.reason.as_str() {
            "" => writeln!(text, "{}: {what}", step.name),
            reason => writeln!(text, "{}: {what}: {reason}", step.name),
        };
    }
    for warning in &outcome.warnings {
        let _ = writeln!(text, "WARNING {warning}");
    }
    for entry in &outcome.boot_entries {
        let _ = writeln!(text, "boot entry {entry:?}");
    }
    let caps = &outcome.caps;
    let _ = writeln!(
        text,
        "caps {:?} {:?} {:?}{}{}{}{}{} boot disk {:?} {:?}",
        caps.block_bus,
        caps.net_bus,
        caps.machine,
        flag(" rng", caps.virtio_rng),
        flag(" balloon", caps.virtio_balloon),
        flag(" serial", caps.virtio_serial),
        flag(" pvpanic", caps.pvpanic),
        flag(" utc", caps.rtc_utc),
        caps.boot_disk,
        caps.firmware
    );
}

fn flag(name: &str, set: bool) -> &str {
    if set { name } else { "" }
}

/// Each changed path with the steps and reasons, and what is different.
fn changes(
    text: &mut String,
    tree: &Tree,
    outcome: &ConvertOutcome,
    before: &Files,
    after: &Files,
    initrds: &[String],
) {
    let mut seen = Vec::new();
    for change in &outcome.changes {
        if seen.contains(&&change.path) {
            continue;
        }
        seen.push(&change.path);
        let _ = writeln!(text, "\n=== {}", change.path);
        let mut whys = Vec::new();
        for other in outcome
            .changes
            .iter()
            .filter(|other| other.path == change.path)
        {
            let why = format!("{}: {}", other.step, other.why);
            if !whys.contains(&why) {
                let _ = writeln!(text, "# {why}");
                whys.push(why);
            }
        }
        if initrds.contains(&change.path) {
            continue;
        }
        let filter = FIRST_BOOT
            .iter()
            .find_map(|(end, shown)| change.path.ends_with(end).then_some(*shown));
        let none = Content::File(Vec::new());
        let real = |files: &Files| {
            let links = [change.path.clone(), real_path(tree, &change.path)];
            let is_link = |path: &String| matches!(files.get(path), Some(Content::Link(_)));
            let gone = !after.contains_key(&links[0]) || links.iter().all(is_link);
            files.get(&links[usize::from(!gone)]).cloned()
        };
        match (real(before), real(after)) {
            (old, Some(Content::Link(target))) => {
                let _ = writeln!(text, "link to {target}{}", was(old.as_ref()));
            }
            (Some(Content::Link(target)), None) => {
                let _ = writeln!(text, "removed, was a link to {target}");
            }
            (Some(_), None) => text.push_str("removed\n"),
            (None, None) => text.push_str("gone again\n"),
            (old, Some(new)) => {
                if old.is_none() {
                    text.push_str("new\n");
                }
                let diff = diff(old.as_ref().unwrap_or(&none), &new);
                let lines = diff.lines().filter(|line| {
                    filter.is_none_or(|marks| marks.iter().any(|mark| line.contains(mark)))
                });
                lines.for_each(|line| *text += &format!("{line}\n"));
            }
        }
    }
}

fn was(old: Option<&Content>) -> String {
    match old {
        Some(Content::Link(target)) => format!(", was to {target}"),
        Some(Content::File(_)) => ", was a file".to_owned(),
        None => String::new(),
    }
}

/// The path with all links followed.
fn real_path(tree: &Tree, path: &str) -> String {
    let above = |path: &Path| path.parent().unwrap().to_owned();
    let full = tree.at(path);
    let top = tree.dir.path().canonicalize().unwrap();
    let found = full.canonicalize().or_else(|_| {
        let dir = above(&full).canonicalize()?;
        Ok::<_, std::io::Error>(dir.join(full.file_name().unwrap()))
    });
    let found = found.unwrap_or(full);
    let inside = found.strip_prefix(&top).unwrap_or(&found);
    format!("/{}", inside.display())
}

fn diff(old: &Content, new: &Content) -> String {
    let bytes = |content: &Content| match content {
        Content::File(bytes) => bytes.clone(),
        Content::Link(target) => format!("link to {target}\n").into_bytes(),
    };
    let (old, new) = (bytes(old), bytes(new));
    if old.is_empty() && std::str::from_utf8(&new).is_ok() {
        let lines = String::from_utf8_lossy(&new);
        return lines.lines().map(|line| format!("+{line}\n")).collect();
    }
    if new.contains(&0) || old.contains(&0) {
        return "binary\n".to_owned();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), old).unwrap();
    fs::write(dir.path().join("new"), new).unwrap();
    let output = Command::new("diff")
        .current_dir(dir.path())
        .args(["-U1", "old", "new"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .skip(2)
        .map(|line| match line.split(" @@").next() {
            Some(head) if head.starts_with("@@") => "@@\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect()
}

/// Members that are new or different: names, and the content of what is no module.
fn initramfs(
    text: &mut String,
    path: &str,
    old: &BTreeMap<String, Vec<u8>>,
    new: &BTreeMap<String, Vec<u8>>,
) {
    let changed: Vec<_> = new
        .iter()
        .filter(|(name, content)| old.get(*name) != Some(content))
        .collect();
    if changed.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n=== in {path}");
    for gone in old.keys().filter(|name| !new.contains_key(*name)) {
        let _ = writeln!(text, "GONE {gone}");
    }
    let mut modules = BTreeMap::<&str, Vec<&str>>::new();
    for (name, content) in changed {
        let (dir, file) = name.rsplit_once('/').unwrap_or(("", name));
        if file.contains(".ko") || file.starts_with("modules.") {
            let top = dir.split("/kernel/").next().unwrap_or(dir);
            modules.entry(top).or_default().push(file);
            continue;
        }
        if content.is_empty() {
            continue;
        }
        let is_new = if old.contains_key(name) {
            "changed "
        } else {
            ""
        };
        let _ = writeln!(text, "{is_new}{name}");
        for line in String::from_utf8_lossy(content).lines() {
            let _ = writeln!(text, "  | {line}");
        }
    }
    for (dir, files) in modules {
        let _ = writeln!(text, "{dir}: {}", files.join(" "));
    }
}

/// Every change is in the report.
fn unrecorded(tree: &Tree, outcome: &ConvertOutcome, before: &Files, after: &Files) {
    let recorded: Vec<String> = outcome
        .changes
        .iter()
        .flat_map(|change| [change.path.clone(), real_path(tree, &change.path)])
        .collect();
    let all = before.keys().chain(after.keys());
    let silent: Vec<&String> = all
        .filter(|path| before.get(*path) != after.get(*path))
        .filter(|path| !recorded.contains(path) && !path.ends_with(".pre-v2v"))
        .collect();
    assert!(
        silent.is_empty(),
        "changed and not in the report: {silent:?}"
    );
}
