//! Devices: udev, the modules that no device asks for, md arrays.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::{RUN, command};

/// Where systemd-udevd may be.
const UDEVD: [&str; 3] = [
    "/usr/lib/systemd/systemd-udevd",
    "/lib/systemd/systemd-udevd",
    "/sbin/udevd",
];
/// How long the first wave of devices may take; discs of big arrays spin up one after the other.
const SETTLE: &str = "--timeout=30";
/// Rules that write to the machine's disks or change how they behave: arrays assembled read-write, volume groups
/// activated, caches registered (which writes their superblock), pools imported, drives tuned.
const MASKED_RULES: [&str; 8] = [
    "64-md-raid-assembly.rules",
    "65-md-incremental.rules",
    "69-bcache.rules",
    "69-lvm.rules",
    "69-lvm-metad.rules",
    "69-vdev.rules",
    "85-hdparm.rules",
    "90-zfs.rules",
];
/// Modules that no modalias of a device loads, with their options. start_ro: what starts an array later than we do
/// starts it without writing (Documentation/admin-guide/md.rst).
const MODULES: [&[&str]; 12] = [
    &["md_mod", "start_ro=1"],
    &["raid0"],
    &["raid1"],
    &["raid10"],
    &["raid456"],
    &["dm_mod"],
    &["dm_multipath"],
    &["sd_mod"],
    &["sr_mod"],
    &["sg"],
    &["edd"],
    &["af_packet"],
];
/// Every block device is looked at; an array of another host counts like one of this.
const MDADM_CONF: &str = "DEVICE partitions\nHOMEHOST <ignore>\nAUTO +all\n";

/// Starts udev, and waits until it has seen every device.
pub(super) fn start_udev() -> Vec<String> {
    let mut problems = Vec::new();
    for rule in MASKED_RULES {
        // An empty file there goes before the rule of the same name (udev(7)).
        if let Err(error) = fs::write(Path::new("/run/udev/rules.d").join(rule), "") {
            problems.push(format!("masking {rule}: {error}"));
        }
    }
    let Some(udevd) = UDEVD.iter().find(|path| Path::new(path).exists()) else {
        problems.push(format!("udev is not there: none of {}", UDEVD.join(", ")));
        return problems;
    };
    // Its output is not read: the daemon may keep it open.
    let started = command(udevd)
        .args(["--daemon", "--resolve-names=never"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match started {
        Ok(status) if status.success() => {}
        Ok(status) => problems.push(format!("{udevd}: {status}")),
        Err(error) => problems.push(format!("{udevd}: {error}")),
    }
    let steps: [&[&str]; 3] = [
        &["udevadm", "trigger", "--type=subsystems", "--action=add"],
        &["udevadm", "trigger", "--type=devices", "--action=add"],
        &["udevadm", "settle", SETTLE],
    ];
    problems.extend(steps.iter().filter_map(|argv| run(argv).err()));
    problems
}

/// Loads what no device asks for. A module that is not there, or is built in, is no problem.
pub(super) fn load_modules() -> Vec<String> {
    for module in MODULES {
        let argv = [&["modprobe", "-q"], module].concat();
        // Which are there depends on the kernel.
        let _ = run(&argv);
    }
    // Where md is built in, or was loaded by udev before.
    let start_ro = Path::new("/sys/module/md_mod/parameters/start_ro");
    match fs::write(start_ro, "1") {
        Err(error) if start_ro.exists() => {
            vec![format!("writing {}: {error}", start_ro.display())]
        }
        _ => Vec::new(),
    }
}

/// Assembles md arrays, firmware RAID as well, read-only: no superblock is written, no resync begins.
pub(super) fn assemble_arrays() -> Vec<String> {
    let config = format!("{RUN}/mdadm.conf");
    if let Err(error) = fs::write(&config, MDADM_CONF) {
        return vec![format!("writing {config}: {error}")];
    }
    // 1: there was nothing to assemble, or not all of it could be; the inventory tells of what is degraded.
    let _ = run(&[
        "mdadm",
        "--assemble",
        "--scan",
        "--readonly",
        "--config",
        &config,
    ]);
    run(&["udevadm", "settle", SETTLE])
        .err()
        .into_iter()
        .collect()
}

fn run(argv: &[&str]) -> Result<(), String> {
    let (program, arguments) = argv.split_first().ok_or("no program")?;
    let output = command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    Err(format!("{}: {}: {last}", argv.join(" "), output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_start_read_only_before_anything_can_start_them() {
        assert_eq!(MODULES.first(), Some(&["md_mod", "start_ro=1"].as_slice()));
        assert!(MASKED_RULES.contains(&"64-md-raid-assembly.rules"));
    }

    #[test]
    fn a_program_that_fails_says_so() {
        assert!(
            run(&["/nowhere/udevadm"])
                .unwrap_err()
                .contains("/nowhere/udevadm")
        );
        let error = run(&["sh", "-c", "echo first >&2; echo last >&2; exit 3"]).unwrap_err();
        assert!(error.contains("exit status: 3: last"), "{error}");
        assert_eq!(run(&["true"]), Ok(()));
    }

    #[test]
    fn programs_get_our_environment_and_nothing_of_the_boot_loaders() {
        let output = command("sh").args(["-c", "env"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("IMSM_NO_PLATFORM=1"), "{text}");
        assert!(!text.contains("CARGO"), "{text}");
    }
}
