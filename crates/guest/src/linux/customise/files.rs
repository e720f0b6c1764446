//! Files and directories: `--upload --copy-in --write --append-line --edit --mkdir --chmod --touch --link`.

use super::substitution::Program;
use crate::payload::{MemberKind, Payload};
use crate::recorder::{from_bytes, to_bytes};
use crate::root::{Kind, join, split};
use crate::{Error, ErrorKind, Recorder, Result, Root};

const WHY: &str = "asked for by the administrator";
/// Files are edited up to this many bytes.
const EDIT_MAX: u64 = 64 << 20;

/// The last component of a member's name.
fn base(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

/// Where an upload to `to` ends.
pub(super) fn upload_path(root: &Root, member: &str, to: &str) -> Result<String> {
    if root.is_dir(to) {
        return Ok(join(to, base(member)));
    }
    if to.ends_with('/') {
        return Err(no_directory(to));
    }
    need_parent(root, to)?;
    Ok(to.to_owned())
}

fn no_directory(path: &str) -> Error {
    let message = "the guest has no such directory: --mkdir makes it";
    Error::new(ErrorKind::Refused, message).at(path)
}

/// The directory that is to hold `path` must be there.
pub(super) fn need_parent(root: &Root, path: &str) -> Result<()> {
    let (dir, _) = split(path)?;
    need_dir(root, if dir.is_empty() { "/" } else { dir })
}

pub(super) fn need_dir(root: &Root, path: &str) -> Result<()> {
    if root.is_dir(path) {
        Ok(())
    } else {
        Err(no_directory(path))
    }
}

/// The path must lead to something.
pub(super) fn need(root: &Root, path: &str) -> Result<()> {
    match root.meta(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::Refused, "the guest has no such file").at(path))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn upload(
    recorder: &mut Recorder<'_>,
    payload: &Payload,
    member: &str,
    to: &str,
) -> Result<()> {
    let path = upload_path(recorder.root(), member, to)?;
    recorder.install(payload, member, &path, WHY)?;
    Ok(())
}

/// Copies a file or tree into a directory. Directories that are there keep their mode and owner.
pub(super) fn copy_in(
    recorder: &mut Recorder<'_>,
    payload: &Payload,
    name: &str,
    to: &str,
) -> Result<()> {
    need_dir(recorder.root(), to)?;
    let top = join(to, base(name));
    for (below, member) in payload.tree(name) {
        let (path, full) = if below.is_empty() {
            (top.clone(), name.to_owned())
        } else {
            (join(&top, below), join(name, below))
        };
        match &member.kind {
            MemberKind::File => {
                recorder.install(payload, &full, &path, WHY)?;
            }
            MemberKind::Symlink(target) => {
                recorder.symlink(&path, target, WHY)?;
            }
            MemberKind::Dir if recorder.root().is_dir(&path) => {}
            MemberKind::Dir => recorder.create_dir(&path, member.mode, WHY)?,
        }
    }
    Ok(())
}

pub(super) fn write(recorder: &mut Recorder<'_>, path: &str, content: &str) -> Result<()> {
    need_parent(recorder.root(), path)?;
    recorder.write(path, content.as_bytes(), WHY)?;
    Ok(())
}

/// Always appends, as virt-customize does.
pub(super) fn append_line(recorder: &mut Recorder<'_>, path: &str, line: &str) -> Result<()> {
    need_parent(recorder.root(), path)?;
    let mut text = match recorder.root().read(path, EDIT_MAX) {
        Ok(old) => from_bytes(&old),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&from_bytes(line.as_bytes()));
    text.push('\n');
    recorder.write(path, &to_bytes(&text), WHY)?;
    Ok(())
}

pub(super) fn edit(recorder: &mut Recorder<'_>, path: &str, expression: &str) -> Result<()> {
    let program = Program::parse(expression).map_err(|error| error.at(path))?;
    need(recorder.root(), path)?;
    let old = recorder.root().read(path, EDIT_MAX)?;
    let new = program.apply(&old);
    if !recorder.write(path, &new, WHY)? {
        recorder.warn(format!("--edit {path}: nothing in it matched"));
    }
    Ok(())
}

/// `mkdir -p`.
pub(super) fn mkdir(recorder: &mut Recorder<'_>, path: &str) -> Result<()> {
    let mut at = String::new();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        at = format!("{at}/{name}");
        if !recorder.root().is_dir(&at) {
            recorder.create_dir(&at, 0o755, WHY)?;
        }
    }
    Ok(())
}

pub(super) fn chmod(recorder: &mut Recorder<'_>, path: &str, mode: u32) -> Result<()> {
    need(recorder.root(), path)?;
    recorder.chmod(path, mode, WHY)?;
    Ok(())
}

pub(super) fn touch(recorder: &mut Recorder<'_>, path: &str) -> Result<()> {
    if recorder.root().exists(path) {
        recorder.root().touch(path)?;
        return recorder.record_attribute(path, WHY);
    }
    need_parent(recorder.root(), path)?;
    recorder.write(path, b"", WHY)?;
    Ok(())
}

/// `ln -sf`; a directory in the place of the link is refused.
pub(super) fn link(recorder: &mut Recorder<'_>, target: &str, link: &str) -> Result<()> {
    need_parent(recorder.root(), link)?;
    if recorder
        .root()
        .link_meta(link)
        .is_ok_and(|meta| matches!(meta.kind, Kind::Dir | Kind::Other))
    {
        let message = "expected a file, a link or nothing in the place of the new link";
        return Err(Error::new(ErrorKind::Refused, message).at(link));
    }
    recorder.symlink(link, target, WHY)?;
    Ok(())
}
