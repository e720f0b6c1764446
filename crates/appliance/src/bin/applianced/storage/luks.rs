//! LUKS and BitLocker volumes, opened by cryptsetup with the keys that the host gave. A key reaches cryptsetup on its
//! standard input and nothing else.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use types::{BlockDevice, DeviceKind, StorageMap};
use wire::appliance::Key;

use super::{Storage, blkid, block_device};
use crate::tool::Tool;

const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";
/// cryptsetup(8), "RETURN CODES": no permission (bad passphrase).
const BAD_KEY: i32 = 2;
/// The id of keys that may open any volume.
const ANY: &str = "all";

/// Opens those of `devices` that are encrypted and have a key, and adds what is inside.
pub(super) fn open(storage: &mut Storage, devices: &[BlockDevice], keys: &[Key]) -> Result<()> {
    for device in devices {
        let kind = match device.content.as_str() {
            "crypto_LUKS" => "luks",
            "BitLocker" => "bitlk",
            _ => continue,
        };
        let keys: Vec<&Key> = keys.iter().filter(|key| fits(key, device)).collect();
        if keys.is_empty() {
            tracing::warn!(
                "{} is encrypted ({}), and there is no key for it",
                device.name,
                device.content
            );
            continue;
        }
        match open_one(storage, device, kind, &keys)? {
            Some(mapping) => add(storage, device, &mapping)?,
            None if keys.iter().any(|key| key.id != ANY) => {
                bail!("the key given for {} does not open it", device.name)
            }
            None => tracing::warn!("none of the keys opens {}", device.name),
        }
    }
    Ok(())
}

/// Closes what `open` opened.
pub(super) fn close(map: &StorageMap) -> Result<()> {
    for device in map
        .devices
        .iter()
        .rev()
        .filter(|device| matches!(device.kind, DeviceKind::Crypt { .. }))
    {
        let mapping = device.name.rsplit('/').next().unwrap_or(&device.name);
        Tool::new(CRYPTSETUP)
            .args(["close", mapping])
            .run()?
            .success()?;
    }
    Ok(())
}

fn fits(key: &Key, device: &BlockDevice) -> bool {
    let uuid = device.uuid.as_deref().unwrap_or_default();
    key.id == ANY
        || key.id == device.name
        || (!uuid.is_empty() && key.id.eq_ignore_ascii_case(uuid))
}

/// Name of the mapping, if a key fits.
fn open_one(
    storage: &Storage,
    device: &BlockDevice,
    kind: &str,
    keys: &[&Key],
) -> Result<Option<String>> {
    let node = storage.node(&device.name)?;
    // As the installer of Debian calls them in crypttab: a UUID is a safe file name whatever the disk holds.
    let uuid = device.uuid.as_deref().filter(|uuid| {
        uuid.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let mapping = match uuid {
        Some(uuid) => format!("luks-{uuid}"),
        None => format!(
            "luks-{}",
            device.name.rsplit('/').next().unwrap_or_default()
        ),
    };
    for key in keys {
        // Discards must reach the overlay, or all of the volume is copied.
        let outcome = Tool::new(CRYPTSETUP)
            .args(["open", "--type", kind, "--allow-discards", "--key-file=-"])
            .arg(node)
            .arg(&mapping)
            .stdin(&key.secret)
            .run()?;
        match outcome.code() {
            Some(0) => return Ok(Some(mapping)),
            Some(BAD_KEY) => {}
            _ => bail!("opening {}: {}", device.name, outcome.complaint()),
        }
    }
    Ok(None)
}

fn add(storage: &mut Storage, parent: &BlockDevice, mapping: &str) -> Result<()> {
    let name = format!("/dev/mapper/{mapping}");
    let kname =
        dm_name(mapping)?.with_context(|| format!("the kernel has no device for {name}"))?;
    let probe = blkid::probe([kname.as_str()])?
        .remove(&kname)
        .unwrap_or_default();
    let kind = DeviceKind::Crypt {
        parent: parent.name.clone(),
    };
    let device = block_device(name, kind, &kname, probe)?;
    storage.add(PathBuf::from("/dev").join(&kname), device);
    Ok(())
}

fn dm_name(mapping: &str) -> Result<Option<String>> {
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("dm/name")).unwrap_or_default();
        if name.trim_end() == mapping {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fits_by_name_uuid_or_for_all() {
        let device = BlockDevice {
            name: "/dev/sda2".into(),
            kind: DeviceKind::Partition { disk: 0, number: 2 },
            virtual_size: 0,
            content: "crypto_LUKS".into(),
            uuid: Some("ab-12".into()),
            label: None,
            partuuid: None,
            partlabel: None,
            parttype: None,
        };
        let key = |id: &str| Key {
            id: id.into(),
            secret: Vec::new(),
        };
        for id in ["all", "/dev/sda2", "AB-12"] {
            assert!(fits(&key(id), &device), "{id}");
        }
        for id in ["/dev/sda", "/dev/sda22", "", "ab"] {
            assert!(!fits(&key(id), &device), "{id}");
        }
    }
}
