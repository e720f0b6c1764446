//! The Windows machines are what they claim.

use anyhow::{Result, ensure};
use registry::{Hive, Logs};
use testkit::guest::windows::{Volume, Windows, cut, require_ntfs, windows};

#[test]
fn both_machines_hold_real_hives_on_sound_volumes() -> Result<()> {
    if !require_ntfs() {
        return Ok(());
    }
    for which in Windows::ALL {
        let guest = windows(which)?;
        let dir = tempfile::tempdir_in(testkit::target_dir())?;
        let part = cut(&guest.raw, which.system(), &dir.path().join("c"))?;
        testkit::cmd::output(testkit::cmd::command("ntfsfix", ["-n"]).arg(&part))?;
        Volume::at(&part).mounted("ro", |root| {
            let config = root.join("Windows/System32/config");
            for name in ["SYSTEM", "SOFTWARE", "SAM"] {
                let bytes = std::fs::read(config.join(name))?;
                let log = |end: &str| std::fs::read(config.join(format!("{name}{end}")));
                let logs = Logs {
                    log1: log(".LOG1").unwrap_or_default(),
                    log2: log(".LOG2").unwrap_or_default(),
                    ..Logs::default()
                };
                let keys = Hive::recover(bytes, &logs)?.hive.verify()?.keys;
                ensure!(name == "SAM" || keys > 1000, "{name}: {keys} keys");
            }
            let mut list = [0u8; 512];
            let read = |path: &str, list: &mut [u8]| {
                rustix::fs::getxattr(config.join(path), "system.ntfs_acl", list)
            };
            let len = read("SYSTEM", &mut list)?;
            // Three entries: nobody but SYSTEM and Administrators writes.
            ensure!(len > 80, "an access list of {len} bytes");
            Ok(())
        })?;
    }
    Ok(())
}
