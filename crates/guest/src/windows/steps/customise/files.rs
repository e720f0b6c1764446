//! `--upload --copy-in --write --append-line --edit --mkdir --touch`.

use std::io;

use super::{paths, refused, text};
use crate::linux::customise::substitution::Program;
use crate::payload::MemberKind;
use crate::recorder::digest;
use crate::root::{join, split};
use crate::windows::convert::Context;
use crate::{Error, ErrorKind, Result, Root};

const WHY: &str = "asked for by the administrator";
/// Files are edited up to this many bytes.
const EDIT_MAX: u64 = 64 << 20;

/// The last component of a member's name.
fn base(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

/// Where an upload to `to` ends.
pub(super) fn upload_path(context: &Context<'_>, member: &str, to: &str) -> Result<String> {
    let placed = paths::place(context, to)?;
    if paths::is_dir(context.root, &placed) {
        return paths::place(context, &join(&placed, base(member)));
    }
    if to.ends_with(['/', '\\']) {
        return Err(no_directory(to));
    }
    need_parent(context.root, &placed)?;
    Ok(placed)
}

fn no_directory(path: &str) -> Error {
    refused("the guest has no such directory: --mkdir makes it").at(path)
}

/// The directory that is to hold `path` must be there.
pub(super) fn need_parent(root: &Root, path: &str) -> Result<()> {
    need_dir(root, split(path)?.0)
}

pub(super) fn need_dir(root: &Root, path: &str) -> Result<()> {
    if paths::is_dir(root, path) {
        Ok(())
    } else {
        Err(no_directory(path))
    }
}

/// The path must lead to a file.
pub(super) fn need(root: &Root, path: &str) -> Result<()> {
    if root.is_file(path) {
        Ok(())
    } else {
        Err(refused("the guest has no such file").at(path))
    }
}

pub(super) fn upload(context: &mut Context<'_>, member: &str, to: &str) -> Result<()> {
    let path = upload_path(context, member, to)?;
    install(context, member, &path)
}

/// Copies a file or tree into a directory.
pub(super) fn copy_in(context: &mut Context<'_>, name: &str, to: &str) -> Result<()> {
    let to = paths::place(context, to)?;
    need_dir(context.root, &to)?;
    let top = join(&to, base(name));
    let payload = context.payload;
    for (below, member) in payload.tree(name) {
        let (path, full) = if below.is_empty() {
            (top.clone(), name.to_owned())
        } else {
            (join(&top, below), join(name, below))
        };
        let path = paths::place(context, &path)?;
        match &member.kind {
            MemberKind::File => install(context, &full, &path)?,
            MemberKind::Dir if context.root.is_dir(&path) => {}
            MemberKind::Dir => context.recorder.create_dir(&path, 0o755, WHY)?,
            MemberKind::Symlink(_) => {
                return Err(refused("a symbolic link cannot be copied into Windows").at(full));
            }
        }
    }
    Ok(())
}

/// Puts a member in the place of whatever file is there. Owners and permission bits are not NTFS's.
fn install(context: &mut Context<'_>, member: &str, path: &str) -> Result<()> {
    let payload = context.payload;
    let reading = |error| Error::io("reading the payload", error).at(path);
    let wanted = digest(&mut payload.read(member)?, &mut io::sink()).map_err(reading)?;
    let before = match context.root.exists(path) {
        true => Some(context.recorder.hash(path)?),
        false => None,
    };
    if before.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let mut from = payload.read(member)?;
    context
        .root
        .replace(path, 0o644, |file| digest(&mut from, file).map(drop))?;
    context.recorder.record(path, before, Some(wanted), WHY);
    Ok(())
}

pub(super) fn write(context: &mut Context<'_>, path: &str, content: &str) -> Result<()> {
    let path = paths::place(context, path)?;
    need_parent(context.root, &path)?;
    context.recorder.write(&path, content.as_bytes(), WHY)?;
    Ok(())
}

/// Always appends, as virt-customize does; with the ends of lines and the encoding that the file has.
pub(super) fn append_line(context: &mut Context<'_>, path: &str, line: &str) -> Result<()> {
    let path = paths::place(context, path)?;
    need_parent(context.root, &path)?;
    let old = match context.root.read(&path, EDIT_MAX) {
        Ok(old) => old,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let new = text::appended(&old, line).map_err(|error| error.at(&path))?;
    context.recorder.write(&path, &new, WHY)?;
    Ok(())
}

pub(super) fn edit(context: &mut Context<'_>, path: &str, expression: &str) -> Result<()> {
    let program = Program::parse(expression).map_err(|error| error.at(path))?;
    let path = paths::place(context, path)?;
    need(context.root, &path)?;
    let old = context.root.read(&path, EDIT_MAX)?;
    let new = text::edited(&old, &program).map_err(|error| error.at(&path))?;
    if !context.recorder.write(&path, &new, WHY)? {
        context
            .recorder
            .warn(format!("--edit {path}: nothing in it matched"));
    }
    Ok(())
}

/// `mkdir -p`.
pub(super) fn mkdir(context: &mut Context<'_>, path: &str) -> Result<()> {
    let path = paths::place(context, path)?;
    let mut at = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = format!("{at}/{name}");
        if !context.root.is_dir(&at) {
            context.recorder.create_dir(&at, 0o755, WHY)?;
        }
    }
    Ok(())
}

pub(super) fn touch(context: &mut Context<'_>, path: &str) -> Result<()> {
    let path = paths::place(context, path)?;
    if context.root.exists(&path) {
        context.root.touch(&path)?;
        return context.recorder.record_attribute(&path, WHY);
    }
    need_parent(context.root, &path)?;
    context.recorder.write(&path, b"", WHY)?;
    Ok(())
}
