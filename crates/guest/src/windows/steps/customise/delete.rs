//! `--delete PATH` with `*` and `?`, as cmd.exe matches them: without regard to case.

use types::glob;

use super::paths;
use crate::recorder::sha256;
use crate::root::{Kind, join};
use crate::windows::convert::Context;
use crate::{Error, ErrorKind, Result, Root};

const WHY: &str = "asked for by the administrator";
/// More matches than this are refused.
const MATCHES_MAX: usize = 64 << 10;

pub(super) fn apply(context: &mut Context<'_>, pattern: &str) -> Result<()> {
    let names = paths::pattern(context, pattern)?;
    let found = expand(context.root, &names).map_err(|error| error.at(pattern))?;
    if found.is_empty() {
        let message = format!("--delete {pattern}: there is nothing like that");
        context.recorder.warn(message);
    }
    for path in &found {
        paths::guard(context, path)?;
    }
    for path in found {
        let kind = match context.root.link_meta(&path) {
            Ok(meta) => meta.kind,
            // Gone with a match before it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if matches!(kind, Kind::File | Kind::Symlink) {
            context.recorder.remove(&path, WHY)?;
            continue;
        }
        if holds_system(context, &path) {
            let message = "this directory holds Windows, it is not deleted";
            return Err(Error::new(ErrorKind::Refused, message).at(path));
        }
        let entries = context.root.remove_tree(&path)?;
        let why = format!("{WHY}, with {entries} entries below it");
        context
            .recorder
            .record(&path, Some(sha256(b"")), None, &why);
    }
    Ok(())
}

/// True for the system's directory, its System32 and the hives' directory.
fn holds_system(context: &Context<'_>, path: &str) -> bool {
    let hives = format!("{}/System32/config/", context.windows.system_root).to_lowercase();
    hives.starts_with(&format!("{}/", path.to_lowercase()))
}

/// Paths that match, as they are spelled on the disk.
fn expand(root: &Root, names: &[String]) -> Result<Vec<String>> {
    let mut found = vec![String::new()];
    for pattern in names {
        // No sets here, and no backslash inside a name.
        let pattern = pattern.to_lowercase().replace('[', r"\[");
        let mut next = Vec::new();
        for dir in &found {
            if !paths::is_dir(root, dir) {
                continue;
            }
            for name in root.names(if dir.is_empty() { "/" } else { dir }) {
                if glob::matches(&pattern, &name.to_lowercase()) {
                    next.push(join(dir, &name));
                }
            }
            if next.len() > MATCHES_MAX {
                let message = format!("it matches more than {MATCHES_MAX} files");
                return Err(Error::new(ErrorKind::Limit, message));
            }
        }
        found = next;
    }
    Ok(found
        .into_iter()
        .map(|path| match path.starts_with('/') {
            true => path,
            false => format!("/{path}"),
        })
        .collect())
}
