//! Edits that several families share: lines set aside as comments, files set aside under another name.

use crate::root::Kind;
use crate::{Recorder, Result};

/// Before a line that conversion took out of a file.
const MARK: &str = "# v2v: ";
/// After the name of a file that conversion took out of use or replaced.
pub(crate) const BACKUP: &str = ".pre-v2v";

/// Makes comments of the lines that `drop` picks; it is shown no comments. `None` when there are none.
pub(crate) fn comment_out(text: &str, mut drop: impl FnMut(&str) -> bool) -> Option<String> {
    let mut changed = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if !bare.is_empty() && !bare.starts_with('#') && drop(bare) {
            out.push_str(MARK);
            changed = true;
        }
        out.push_str(line);
    }
    changed.then_some(out)
}

/// [`comment_out`] in a file of the guest.
pub(crate) fn drop_lines(
    recorder: &mut Recorder<'_>,
    path: &str,
    why: &str,
    drop: impl FnMut(&str) -> bool,
) -> Result<bool> {
    if !recorder.root().is_file(path) {
        return Ok(false);
    }
    recorder.edit(path, why, |text| comment_out(text, drop))
}

/// Renames a file so that nothing reads it any more. False when it is not there.
pub(crate) fn set_aside(recorder: &mut Recorder<'_>, path: &str, why: &str) -> Result<bool> {
    let there = recorder.root().link_meta(path);
    if !there.is_ok_and(|meta| matches!(meta.kind, Kind::File | Kind::Symlink)) {
        return Ok(false);
    }
    recorder.rename(path, &format!("{path}{BACKUP}"), why)?;
    Ok(true)
}

/// Edits a file and keeps the first version beside it.
pub(crate) fn edit_with_backup(
    recorder: &mut Recorder<'_>,
    path: &str,
    why: &str,
    edit: impl FnOnce(&str) -> Option<String>,
) -> Result<bool> {
    let root = recorder.root();
    if !root.is_file(path) {
        return Ok(false);
    }
    let old = crate::recorder::from_bytes(&root.read(path, crate::CONFIG_MAX)?);
    let Some(new) = edit(&old).filter(|new| *new != old) else {
        return Ok(false);
    };
    let backup = format!("{path}{BACKUP}");
    if root.link_meta(&backup).is_err() {
        recorder.copy(path, &backup, "as it was before the conversion")?;
    }
    recorder.write(path, &crate::recorder::to_bytes(&new), why)
}
