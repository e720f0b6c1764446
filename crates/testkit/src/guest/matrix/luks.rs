//! LUKS volumes as files, made without device mapper.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disk::{copy_range, new_file};
use super::plan::LUKS_SECTORS;
use crate::cmd;
use crate::guest::layout::SECTOR;

/// Opens every encrypted volume.
pub(super) const PASSPHRASE: &str = "matrix of guests";

/// Which header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// LUKS 1.
    One,
    /// LUKS 2.
    Two,
}

/// Encrypts `plain` without device mapper. qemu-img writes LUKS 1 (QEMU, `crypto/block-luks.c`); LUKS 2 has the same
/// payload (aes-xts-plain64, 512-byte sectors) behind another header, made around the same volume key.
pub(super) fn encrypt(plain: &Path, uuid: &str, work: &Path, version: Version) -> Result<PathBuf> {
    let (one, key) = (work.join("luks1.img"), work.join("passphrase"));
    fs::write(&key, PASSPHRASE).context("writing the passphrase")?;
    let secret = format!("secret,id=key,file={}", crate::places::text(&key)?);
    let options = "key-secret=key,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256,iter-time=10";
    cmd::output(
        cmd::command(
            "qemu-img",
            [
                "convert", "--object", &secret, "-f", "raw", "-O", "luks", "-o", options,
            ],
        )
        .arg(plain)
        .arg(&one),
    )?;
    let cryptsetup = |args: &[&str]| cmd::command("cryptsetup", args);
    if version == Version::One {
        cmd::output(cryptsetup(&["-q", "luksUUID", "--uuid", uuid]).arg(&one))?;
        return Ok(one);
    }
    let (two, volume_key) = (work.join("luks2.img"), work.join("volume-key"));
    cmd::output(
        cryptsetup(&["-q", "luksDump", "--dump-volume-key", "--volume-key-file"])
            .arg(&volume_key)
            .arg("--key-file")
            .args([&key, &one]),
    )?;
    let payload = fs::metadata(plain)
        .context("looking at the plain volume")?
        .len();
    let file = new_file(&two, LUKS_SECTORS * SECTOR + payload)?;
    let format = [
        "-q",
        "luksFormat",
        "--type",
        "luks2",
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
    ];
    cmd::output(
        cryptsetup(&format)
            .args([
                "--sector-size",
                "512",
                "--pbkdf",
                "pbkdf2",
                "--pbkdf-force-iterations",
                "1000",
            ])
            .args([
                "--offset",
                &LUKS_SECTORS.to_string(),
                "--uuid",
                uuid,
                "--volume-key-file",
            ])
            .args([&volume_key, &two, &key]),
    )?;
    let start = payload_offset(&one)?;
    copy_range(&one, start, &file, LUKS_SECTORS * SECTOR, payload)?;
    fs::remove_file(&one).context("removing the first volume")?;
    Ok(two)
}

/// `payload-offset` of a LUKS 1 header: big-endian sectors at byte 104 (LUKS1 On-Disk Format 1.2.3, figure 1).
fn payload_offset(luks: &Path) -> Result<u64> {
    let file = File::open(luks).context("opening the encrypted volume")?;
    let mut field = [0; 4];
    file.read_exact_at(&mut field, 104)
        .context("reading the LUKS header")?;
    Ok(u64::from(u32::from_be_bytes(field)) * SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cryptsetup_itself_opens_either_version() {
        if !crate::require_tool("cryptsetup") || !crate::require_tool("qemu-img") {
            return;
        }
        let uuid = "5a3d0000-0003-4000-8000-00000000000a";
        for (version, name) in [(Version::One, "1"), (Version::Two, "2")] {
            let dir = tempfile::tempdir().unwrap();
            let plain = dir.path().join("plain");
            fs::write(&plain, b"a root file system ".repeat(1 << 16)).unwrap();
            let size = fs::metadata(&plain).unwrap().len().next_multiple_of(4096);
            File::options()
                .write(true)
                .open(&plain)
                .unwrap()
                .set_len(size)
                .unwrap();
            let made = encrypt(&plain, uuid, dir.path(), version).unwrap();
            let whole = fs::read(&made).unwrap();
            assert!(whole.len() as u64 <= size + LUKS_SECTORS * SECTOR);
            assert!(!whole.windows(11).any(|bytes| bytes == b"file system"));
            let dump = cmd::output(cmd::command("cryptsetup", ["luksDump"]).arg(&made)).unwrap();
            assert!(dump.contains(uuid), "{dump}");
            assert!(
                dump.lines()
                    .any(|line| line.starts_with("Version:") && line.ends_with(name)),
                "{dump}"
            );
            let test = ["open", "--test-passphrase", "--key-file"];
            let mut open = cmd::command("cryptsetup", test);
            cmd::output(open.args([&dir.path().join("passphrase"), &made])).unwrap();
        }
    }
}
