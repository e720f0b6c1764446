//! LUKS and BitLocker volumes, opened by cryptsetup with the keys that the host gave. A key reaches cryptsetup on its
//! standard input and nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use types::{BlockDevice, DeviceKind};
use wire::appliance::Key;

use super::{Storage, blkid, block_device, dm};
use crate::tool::Tool;

const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";
/// cryptsetup(8), "RETURN CODES": no permission (bad passphrase).
const BAD_KEY: i32 = 2;
/// The same: out of memory.
const NO_MEMORY: i32 = 3;
/// What cryptsetup calls BitLocker.
const BITLK: &str = "bitlk";
/// The id of keys that may open any volume.
const ANY: &str = "all";

/// Opens those of `devices` that are encrypted and have a key, and adds what is inside.
pub(super) fn open(storage: &mut Storage, devices: &[BlockDevice], keys: &[Key]) -> Result<()> {
    for device in devices {
        let Some(kind) = kind(device) else { continue };
        let keys: Vec<&Key> = keys.iter().filter(|key| fits(key, device)).collect();
        if keys.is_empty() && opens_by_itself(storage, device, kind)? {
            continue;
        }
        if keys.is_empty() {
            let what = format!(
                "{} is encrypted, and no key was given for it",
                called(device)
            );
            storage.warn(what, Some(advice(device)));
            continue;
        }
        match open_one(storage, device, kind, &keys)? {
            Some(mapping) => add(storage, device, &mapping)?,
            None if keys.iter().any(|key| key.id != ANY) => {
                bail!(
                    "the key given for {} does not open it; {}",
                    called(device),
                    advice(device)
                )
            }
            None => {
                let what = format!(
                    "none of the keys given for all devices opens {}",
                    called(device)
                );
                storage.warn(what, Some(advice(device)));
            }
        }
    }
    Ok(())
}

/// BitLocker that is suspended keeps its key in clear on the disk: no other is needed, if cryptsetup takes it.
fn opens_by_itself(storage: &mut Storage, device: &BlockDevice, kind: &str) -> Result<bool> {
    if kind != BITLK {
        return Ok(false);
    }
    let none = Key {
        id: ANY.into(),
        secret: Vec::new(),
    };
    match open_one(storage, device, kind, &[&none]) {
        Ok(Some(mapping)) => {
            tracing::info!("{} is suspended, and opened without a key", called(device));
            add(storage, device, &mapping)?;
            Ok(true)
        }
        Ok(None) => Ok(false),
        // Then the words about a missing key are the better ones.
        Err(error) => {
            tracing::debug!("{error:#}");
            Ok(false)
        }
    }
}

/// Says which keys are for no encrypted device.
pub(super) fn check_keys(storage: &mut Storage, keys: &[Key]) {
    for key in keys.iter().filter(|key| key.id != ANY) {
        let encrypted = |device: &&BlockDevice| kind(device).is_some();
        let mut devices = storage.map().devices.iter().filter(encrypted);
        if devices.any(|device| fits(key, device)) {
            continue;
        }
        let all: Vec<String> = storage
            .map()
            .devices
            .iter()
            .filter(encrypted)
            .map(called)
            .collect();
        let all = if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        };
        storage.warn(
            format!(
                "--key {}:…: there is no such encrypted device; found {all}",
                key.id
            ),
            Some("name it by its device, by UUID=…, or by all".to_owned()),
        );
    }
}

/// The device, its kind and its UUID.
fn called(device: &BlockDevice) -> String {
    let content = device.content.trim_start_matches("crypto_");
    match &device.uuid {
        Some(uuid) => format!("{} ({content}, UUID {uuid})", device.name),
        None => format!("{} ({content})", device.name),
    }
}

fn advice(device: &BlockDevice) -> String {
    let id = match &device.uuid {
        Some(uuid) => format!("UUID={uuid}"),
        None => device.name.clone(),
    };
    if kind(device) == Some(BITLK) {
        return format!(
            "give its password or its recovery password (48 digits; `manage-bde -protectors -get C:` in Windows shows it) as \
             --key {id}:key:PASSWORD, or its startup key as --key {id}:file:FILE.BEK; a key in a TPM cannot be had here; or \
             turn BitLocker off in Windows (`manage-bde -off C:`) and convert again"
        );
    }
    format!("give it as --key {id}:key:PASSPHRASE or --key {id}:file:KEYFILE")
}

/// The secret as cryptsetup wants it: BitLocker's recovery password is eight groups of six digits with dashes, which people
/// type with blanks, without anything, or with the end of a line.
fn secret(kind: &str, secret: &[u8]) -> Vec<u8> {
    const DIGITS: usize = 48;
    const GROUP: usize = 6;
    let digits: Vec<u8> = secret.iter().copied().filter(u8::is_ascii_digit).collect();
    let is_recovery = kind == BITLK
        && digits.len() == DIGITS
        && secret
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b' ' | b'\r' | b'\n'));
    if !is_recovery {
        return secret.to_owned();
    }
    let groups: Vec<&[u8]> = digits.chunks(GROUP).collect();
    groups.join(&b'-')
}

/// What cryptsetup calls its kind, if it is encrypted.
fn kind(device: &BlockDevice) -> Option<&'static str> {
    match device.content.as_str() {
        "crypto_LUKS" => Some("luks"),
        "BitLocker" => Some(BITLK),
        _ => None,
    }
}

/// `all`, the name of the storage map, its name in /dev/mapper, `UUID=…`, or the UUID alone.
fn fits(key: &Key, device: &BlockDevice) -> bool {
    let bare = key
        .id
        .strip_prefix("UUID=")
        .or_else(|| key.id.strip_prefix("/dev/disk/by-uuid/"));
    let wanted = bare.unwrap_or(&key.id).trim_matches('"');
    let uuid = device.uuid.as_deref().unwrap_or_default();
    let double = |text: &str| text.replace('-', "--");
    let by_mapper = match &device.kind {
        DeviceKind::Lv { vg, lv } => key.id == format!("/dev/mapper/{}-{}", double(vg), double(lv)),
        _ => false,
    };
    key.id == ANY
        || key.id == device.name
        || by_mapper
        || (!uuid.is_empty() && wanted.eq_ignore_ascii_case(uuid))
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
    let short = device.name.rsplit('/').next().unwrap_or_default();
    let mut mapping = format!("{kind}-{}", uuid.unwrap_or(short));
    if dm_name(&mapping)?.is_some() {
        // A copy on another disk.
        mapping = format!(
            "{mapping}-{}",
            node.file_name().unwrap_or_default().to_string_lossy()
        );
    }
    for key in keys {
        // Discards must reach the overlay, or all of the volume is copied.
        let outcome = Tool::new(CRYPTSETUP)
            .args(["open", "--type", kind, "--allow-discards", "--key-file=-"])
            .arg(node)
            .arg(&mapping)
            .stdin(&secret(kind, &key.secret))
            .run()?;
        match outcome.code() {
            Some(0) => return Ok(Some(mapping)),
            Some(BAD_KEY) => {}
            // Argon2 wants as much memory as the machine had that made the volume, up to 1 GiB.
            Some(NO_MEMORY) | None => bail!(
                "opening {}: there is not enough memory for its key derivation ({}); give the appliance more by --memsize",
                called(device),
                outcome.complaint()
            ),
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
    let all = dm::devices()?.into_iter();
    Ok(all
        .filter(|device| device.name == mapping)
        .map(|device| device.kname)
        .next())
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
            start: None,
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
        for id in [
            "all",
            "/dev/sda2",
            "AB-12",
            "UUID=ab-12",
            "UUID=\"ab-12\"",
            "/dev/disk/by-uuid/ab-12",
        ] {
            assert!(fits(&key(id), &device), "{id}");
        }
        for id in [
            "/dev/sda",
            "/dev/sda22",
            "",
            "ab",
            "UUID=",
            "/dev/mapper/a-b",
        ] {
            assert!(!fits(&key(id), &device), "{id}");
        }
        let volume = BlockDevice {
            name: "/dev/my-vg/root".into(),
            kind: DeviceKind::Lv {
                vg: "my-vg".into(),
                lv: "root".into(),
            },
            ..device.clone()
        };
        assert!(
            fits(&key("/dev/my-vg/root"), &volume)
                && fits(&key("/dev/mapper/my--vg-root"), &volume)
        );
        assert_eq!(
            advice(&device),
            "give it as --key UUID=ab-12:key:PASSPHRASE or --key UUID=ab-12:file:KEYFILE"
        );
        assert_eq!(called(&device), "/dev/sda2 (LUKS, UUID ab-12)");
    }

    #[test]
    fn a_recovery_password_may_be_typed_in_any_way() {
        let wanted = "111111-222222-333333-444444-555555-666666-777777-888888";
        let plain = wanted.replace('-', "");
        for typed in [
            wanted.to_owned(),
            format!("{wanted}\r\n"),
            plain.clone(),
            wanted.replace('-', " "),
        ] {
            assert_eq!(
                secret(BITLK, typed.as_bytes()),
                wanted.as_bytes(),
                "{typed}"
            );
        }
        // A password that looks nearly so, and LUKS, are left alone.
        let short = plain.get(1..).unwrap();
        assert_eq!(secret(BITLK, short.as_bytes()), short.as_bytes());
        assert_eq!(secret("luks", plain.as_bytes()), plain.as_bytes());
        assert_eq!(secret(BITLK, b"open sesame\n"), b"open sesame\n");
    }

    #[test]
    fn what_bitlocker_lacks_is_named() {
        let device = BlockDevice {
            name: "/dev/sda3".into(),
            kind: DeviceKind::Partition { disk: 0, number: 3 },
            virtual_size: 0,
            start: None,
            content: "BitLocker".into(),
            uuid: None,
            label: None,
            partuuid: None,
            partlabel: None,
            parttype: None,
        };
        assert_eq!(called(&device), "/dev/sda3 (BitLocker)");
        let advice = advice(&device);
        for words in [
            "--key /dev/sda3:key:PASSWORD",
            "48 digits",
            "TPM",
            "manage-bde -off",
        ] {
            assert!(advice.contains(words), "{advice}");
        }
    }
}
