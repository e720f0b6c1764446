//! Which subvolume of a btrfs holds the root: the default one, or the one that the guest's boot loader and fstab name.
//! Snapshots are no further roots: one file system gives one root.

use std::fs;

use anyhow::Result;
use types::BlockDevice;

use crate::mounts::{self, Access, GUEST};
use crate::storage::Storage;
use crate::tool::Tool;

/// Where distributions keep their root when it is not the default subvolume: Ubuntu, Mint and Arch; Fedora; Debian's
/// installer. They come before any other that the file system has.
const USUAL: [&str; 3] = ["@", "root", "@rootfs"];
/// The top of the tree: what holds all other subvolumes (btrfs-subvolume(8)).
const TOP: &str = "subvolid=5";
/// More subvolumes than that are not looked into.
const MAX_TRIED: usize = 64;

/// Mount options of the subvolume that holds the root of an operating system, if one does.
pub(crate) fn find_root(storage: &Storage, device: &BlockDevice) -> Result<Option<String>> {
    let mut second_choice = None;
    let default = look(storage, device, "")?;
    let mut choices: Vec<String> = Vec::new();
    if let Some(found) = default {
        match found.other() {
            None => return Ok(Some(String::new())),
            Some(named) => {
                // Something else is started than is mounted by default: an old system at the top, perhaps.
                choices.push(named);
                second_choice = Some(String::new());
            }
        }
    }
    choices.extend(USUAL.iter().map(|name| format!("subvol={name}")));
    for options in choices {
        // No such subvolume is the usual answer.
        match look(storage, device, &options) {
            Ok(Some(found)) if found.other().is_none() => return Ok(Some(options)),
            Ok(Some(_)) => {
                second_choice.get_or_insert(options);
            }
            _ => {}
        }
    }
    if second_choice.is_some() {
        return Ok(second_choice);
    }
    for options in unusual(storage, device)? {
        if let Ok(Some(_)) = look(storage, device, &options) {
            return Ok(Some(options));
        }
    }
    Ok(None)
}

/// A subvolume that holds the root of an operating system.
struct Found {
    /// Its path in the file system, without a slash before it.
    path: String,
    /// `subvol=…` or `subvolid=…` that the system itself gives for its root.
    named: Option<String>,
}

impl Found {
    /// What the system names as its root, when that is not what was looked at.
    fn other(&self) -> Option<String> {
        let named = self.named.as_ref()?;
        let same = named
            .strip_prefix("subvol=")
            .is_some_and(|path| path.trim_matches('/') == self.path);
        (!same).then(|| named.clone())
    }
}

fn look(storage: &Storage, device: &BlockDevice, options: &str) -> Result<Option<Found>> {
    mount(storage, device, options)?;
    let found = look_inside(options);
    mounts::unmount_below(GUEST)?;
    found
}

fn mount(storage: &Storage, device: &BlockDevice, options: &str) -> Result<()> {
    let node = storage.node(&device.name)?;
    let (name, content) = (&device.name, &device.content);
    mounts::mount(node, name, content, GUEST.as_ref(), Access::Peek, options)
}

fn look_inside(options: &str) -> Result<Option<Found>> {
    let root = guest::Root::open(GUEST.as_ref())?;
    if !guest::is_os_root(&root) {
        return Ok(None);
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // What was asked for by its number was asked for because the system names that number.
    let named = guest::root_subvolume(&root).filter(|named| named != options);
    Ok(Some(Found {
        path: mounted_path(&table, GUEST).unwrap_or_default(),
        named,
    }))
}

/// Path inside its file system of what is mounted at `target` (proc(5), mountinfo, fields 4 and 5).
fn mounted_path(table: &str, target: &str) -> Option<String> {
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(target))?;
    let path = line.split(' ').nth(3)?;
    Some(mounts::unescape_octal(path).trim_matches('/').to_owned())
}

/// Options for subvolumes that are no snapshots, the shallow ones first.
fn unusual(storage: &Storage, device: &BlockDevice) -> Result<Vec<String>> {
    mount(storage, device, TOP)?;
    let list = Tool::new("/usr/bin/btrfs")
        .args(["subvolume", "list", "-q", GUEST])
        .run()
        .and_then(crate::tool::Outcome::success);
    mounts::unmount_below(GUEST)?;
    Ok(originals(&list?))
}

/// `ID 256 gen 30 top level 5 parent_uuid - path @/var`
fn originals(list: &str) -> Vec<String> {
    let mut found: Vec<(usize, u64)> = list
        .lines()
        .filter_map(|line| {
            let (head, path) = line.split_once(" path ")?;
            let id = head.strip_prefix("ID ")?.split(' ').next()?.parse().ok()?;
            let is_original = head.trim_end().ends_with("parent_uuid -");
            is_original.then(|| (path.matches('/').count(), id))
        })
        .collect();
    found.sort_unstable();
    let options = found.into_iter().map(|(_, id)| format!("subvolid={id}"));
    options.take(MAX_TRIED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_left_out_and_shallow_ones_come_first() {
        let list = "ID 256 gen 30 top level 5 parent_uuid - path sys/arch\n\
            ID 257 gen 31 top level 5 parent_uuid -                                    path home\n\
            ID 300 gen 9 top level 5 parent_uuid 5f3c0e5c-0000-0000-0000-000000000000 path snap\n\
            nonsense\n";
        assert_eq!(originals(list), ["subvolid=257", "subvolid=256"]);
    }

    #[test]
    fn the_path_of_a_mount_is_its_fourth_field() {
        let table = "20 1 0:30 / /proc rw - proc proc rw\n\
            21 1 0:31 /@/.snapshots/1/snapshot /guest ro - btrfs /dev/vda2 ro\n";
        assert_eq!(
            mounted_path(table, "/guest").as_deref(),
            Some("@/.snapshots/1/snapshot")
        );
        assert_eq!(mounted_path(table, "/other"), None);
    }

    #[test]
    fn a_root_that_names_itself_or_nothing_is_the_one() {
        let found = |path: &str, named: Option<&str>| Found {
            path: path.into(),
            named: named.map(str::to_owned),
        };
        assert_eq!(found("@", Some("subvol=/@")).other(), None);
        assert_eq!(found("", None).other(), None);
        let old = found("", Some("subvol=@"));
        assert_eq!(old.other().as_deref(), Some("subvol=@"));
    }
}
