//! Paths as administrators write them: `C:\Temp\a.txt`, `/Temp/a.txt`.

use super::refused;
use crate::windows::convert::Context;
use crate::windows::files;
use crate::{Result, Root};

/// Hives that the conversion edits and writes itself.
const HIVES: [&str; 2] = ["system32/config/system", "system32/config/software"];

/// The path in the guest's volume, with as much of it as exists spelled as on the disk.
pub(super) fn place(context: &Context<'_>, path: &str) -> Result<String> {
    let inner = inner(context, path)?;
    let forbidden = |c: char| "<>:\"|?*".contains(c) || c.is_control();
    for name in inner.split('/') {
        if name == ".." || name.contains(forbidden) || name.ends_with(['.', ' ']) && name != "." {
            return Err(refused(format!(
                "expected a name of a file in Windows, found {name}"
            ))
            .at(path));
        }
    }
    let placed = files::place(context.root, &plain(&inner));
    guard(context, &placed)?;
    Ok(placed)
}

/// The components of a path with wildcards.
pub(super) fn pattern(context: &Context<'_>, path: &str) -> Result<Vec<String>> {
    let inner = plain(&inner(context, path)?);
    let names: Vec<String> = inner
        .split('/')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.is_empty() || names.iter().any(|name| name == "..") {
        return Err(refused("this is the whole guest, it is not deleted").at(path));
    }
    Ok(names)
}

/// Without the drive, with slashes.
fn inner(context: &Context<'_>, path: &str) -> Result<String> {
    let path = path.replace('\\', "/");
    let drive = &context.windows.drive;
    match path.split_once(':') {
        Some((letter, rest)) if letter.len() == 1 => {
            if letter.eq_ignore_ascii_case(drive) {
                return Ok(rest.to_owned());
            }
            let message = format!("only files of drive {drive}: can be changed");
            Err(refused(message).at(&path))
        }
        _ if path.starts_with("//") => {
            Err(refused("expected a path on the guest's own drive").at(&path))
        }
        _ => Ok(path),
    }
}

fn plain(path: &str) -> String {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.fold(String::new(), |path, name| format!("{path}/{name}"))
}

/// Refuses what the conversion writes itself.
pub(super) fn guard(context: &Context<'_>, placed: &str) -> Result<()> {
    let root = context.windows.system_root.to_lowercase();
    let placed_lower = placed.to_lowercase();
    let hive = |hive: &&str| placed_lower == format!("{root}/{hive}");
    if HIVES.iter().any(hive) {
        return Err(refused("the conversion writes this hive of the registry itself").at(placed));
    }
    Ok(())
}

/// True when it is a directory; the volume's own is.
pub(super) fn is_dir(root: &Root, path: &str) -> bool {
    root.is_dir(if path.is_empty() { "/" } else { path })
}
