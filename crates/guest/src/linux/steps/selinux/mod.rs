//! SELinux: what conversion made gets the label that the guest's own policy wants (file_contexts); what it replaced
//! keeps its own.
//!
//! Our kernel has no policy, so nothing is labelled by itself; and as the lookup is ours, a policy of any version and
//! without its binary files will do. Only where there is no such policy does the guest relabel itself at its next boot.

mod contexts;

use crate::linux::convert::Context;
use crate::{Result, Root};
use contexts::{Contexts, Wanted};

const MARK: &str = "/.autorelabel";
const CONFIG: &str = "/etc/selinux/config";
/// One message names so many files at most.
const NAMES_MAX: usize = 5;

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.guest.selinux && !context.recorder.changes().is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let root = context.root;
    let labelled = root.has_label("/etc") || root.has_label("/");
    let contexts = match Contexts::read(root, &policy(root)) {
        Ok(contexts) if labelled => contexts,
        Ok(_) => return relabel(context, "its root has no labels"),
        Err(error) => {
            let reason = format!("its file contexts could not be read ({})", error.chain());
            return without_policy(context, labelled, &reason);
        }
    };
    let mut failed = Vec::new();
    for (path, made) in touched(context) {
        match label(root, &contexts, &path, made) {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!("{}", error.chain());
                failed.push(path);
            }
        }
    }
    if failed.is_empty() {
        context
            .recorder
            .not_needed("every new file has the label that the guest's policy gives it");
        return Ok(());
    }
    failed.truncate(NAMES_MAX);
    let reason = format!("{} could not be labelled", failed.join(", "));
    relabel(context, &reason)
}

/// SELINUXTYPE of the configuration; `targeted` where it is not said, as libselinux has it.
fn policy(root: &Root) -> String {
    let text = root.text(CONFIG).unwrap_or_default();
    let kind = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SELINUXTYPE="))
        .next_back()
        .map(str::trim)
        .filter(|kind| !kind.is_empty() && !kind.contains('/') && !kind.starts_with('.'));
    kind.unwrap_or("targeted").to_owned()
}

/// Files that are there now because of conversion, and directories above them that it made; true for new ones.
fn touched(context: &Context<'_>) -> Vec<(String, bool)> {
    let recorder = &context.recorder;
    let mut paths: Vec<(String, bool)> = recorder
        .made_dirs()
        .iter()
        .map(|path| (path.clone(), true))
        .collect();
    for change in recorder.changes() {
        if change.after.is_some() {
            paths.push((change.path.clone(), change.before.is_none()));
        }
    }
    // A file that was made and then changed is new; one that was replaced in between too.
    paths.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    paths.dedup_by(|a, b| a.0 == b.0);
    paths
}

/// A new file gets the policy's label; an old one only if it has none, as its administrator may have chosen it.
fn label(root: &Root, contexts: &Contexts, path: &str, made: bool) -> Result<()> {
    // A link in the middle of the path leads to where the policy knows the file.
    let real = match root.real_path(path) {
        Err(error) if error.kind() == crate::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let old = match root.label(path) {
        // vfat and its like have no labels; the mount gives them one.
        Err(error) if error.kind() == crate::ErrorKind::Unsupported => return Ok(()),
        other => other?,
    };
    if old.is_some() && !made {
        return Ok(());
    }
    match contexts.wanted(root, &real, path)? {
        Wanted::Label(wanted) if old.as_deref() != Some(&wanted) => {
            tracing::debug!("labelling {path} {wanted}");
            root.set_label(path, &wanted)
        }
        _ => Ok(()),
    }
}

/// New files have their directories' labels, which is often right and always better than none.
fn without_policy(context: &mut Context<'_>, labelled: bool, reason: &str) -> Result<()> {
    if !labelled || !context.recorder.unlabelled().is_empty() {
        return relabel(context, reason);
    }
    context.recorder.skip(reason);
    context.recorder.warn(format!(
        "SELinux: {reason}; new files have the labels of their directories: run `restorecon -R /etc /usr /var` in the guest"
    ));
    Ok(())
}

fn relabel(context: &mut Context<'_>, reason: &str) -> Result<()> {
    if context.root.exists(MARK) {
        return Ok(());
    }
    context.recorder.write(MARK, b"", reason)?;
    context.recorder.warn(format!(
        "the guest relabels its files at the first boot, and reboots once: {reason}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests;
