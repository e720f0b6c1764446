//! A guest that cannot be converted is never refused without a way: `--compat` and `--on-unknown=copy` copy its disks
//! bit for bit and give the domain devices that every system drives.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;
use v2v_tests::{arg, assert_nothing_left, listing, ok, refused, run};

/// GPT types (gpart(8)) of freebsd-boot and freebsd-ufs.
const BOOT: &str = "83BD6B9D-7F41-11DC-BE0B-001560B84F0F";
const UFS: &str = "516E7CB6-6ECF-11D6-8FF8-00022D09712B";

/// A disk as FreeBSD's installer cuts it, with bytes in it that no file system is known by.
fn freebsd(dir: &Path) -> Result<PathBuf> {
    let disk = dir.join("bsd.raw");
    let file = fs::File::create(&disk)?;
    file.set_len(48 << 20)?;
    let status = Command::new("sgdisk")
        .args([
            "-a",
            "1",
            "-n",
            "1:40:+512K",
            "-t",
            &format!("1:{BOOT}"),
            "-n",
            "2:0:0",
            "-t",
            &format!("2:{UFS}"),
        ])
        .arg(&disk)
        .output()?
        .status;
    ensure!(status.success(), "sgdisk failed");
    let mut state: u32 = 1;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    for offset in [40 * 512, 3 << 20, 17 << 20, 44 << 20] {
        let block: Vec<u8> = (0..64 << 10).map(|_| noise()).collect();
        file.write_all_at(&block, offset)?;
    }
    Ok(disk)
}

fn convert(disk: &Path, out: &Path, options: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = [
        "-i", "disk", "-if", "raw", "-o", "local", "-of", "raw", "-on", "bsd", "-os",
    ]
    .map(str::to_owned)
    .to_vec();
    args.push(arg(out));
    args.extend(options.iter().map(|option| (*option).to_owned()));
    args.push(arg(disk));
    args
}

#[test]
fn a_foreign_system_is_named_and_the_way_is_offered() -> Result<()> {
    let (dir, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let disk = freebsd(dir.path())?;
    let line = refused(convert(&disk, out.path(), &[]))?;
    ensure!(
        line.contains("FreeBSD") && line.contains("--compat"),
        "{line}"
    );
    assert_nothing_left(out.path(), &[])?;

    let output = run(["inspect", "-i", "disk", "-if", "raw", "--json", &arg(&disk)])?;
    ensure!(output.status.code() == Some(2), "{}", output.status);
    let plan: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(plan["concerns"][0]["severity"] == "blocker", "{plan}");
    ensure!(
        plan["storage"]["devices"]
            .as_array()
            .is_some_and(|devices| devices.len() == 3),
        "{}",
        plan["storage"]
    );
    Ok(())
}

#[test]
fn its_disk_is_copied_bit_for_bit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = freebsd(dir.path())?;
    let original = fs::read(&disk)?;
    for options in [
        &["--on-unknown=copy"][..],
        &["--compat"],
        &["--compat", "--no-fstrim"],
    ] {
        let out = tempfile::tempdir()?;
        let report = out.path().join("report.json");
        let name = arg(&report);
        let with_report = [options, &["--report", &name]].concat();
        ok(convert(&disk, out.path(), &with_report))?;
        ensure!(
            listing(out.path())? == ["bsd-sda", "bsd.xml", "report.json"],
            "{:?}",
            listing(out.path())?
        );
        ensure!(
            fs::read(out.path().join("bsd-sda"))? == original,
            "{options:?}: the copy differs"
        );
        ensure!(
            fs::read(&disk)? == original,
            "{options:?}: the source was changed"
        );
        let xml = fs::read_to_string(out.path().join("bsd.xml"))?;
        ensure!(
            xml.contains("bus=\"sata\"") || xml.contains("bus='sata'"),
            "{xml}"
        );
        ensure!(
            !xml.contains("virtio-blk") && !xml.contains("bus=\"virtio\""),
            "{xml}"
        );
        let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
        ensure!(
            report["conversion"] == "copied" && report["caps"]["net_bus"] == "e1000e",
            "{report}"
        );
        ensure!(
            report["changes"].as_array().is_some_and(Vec::is_empty),
            "{report}"
        );
        ensure!(
            report["warnings"][0]
                .as_str()
                .is_some_and(|text| text.contains("nothing was changed")),
            "{report}"
        );
        ensure!(
            report["target"]["files"]
                .as_array()
                .is_some_and(|files| !files.is_empty()),
            "{report}"
        );
    }
    Ok(())
}

#[test]
fn its_adapters_are_e1000e() -> Result<()> {
    let (dir, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let disk = freebsd(dir.path())?;
    let domain = dir.path().join("bsd.xml");
    fs::write(
        &domain,
        format!(
            "<domain type='kvm'><name>bsd</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64'>hvm</type></os><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/><target dev='sda' bus='scsi'/></disk>\
             <interface type='network'><mac address='52:54:00:11:22:33'/><source network='default'/><model type='vmxnet3'/></interface>\
             </devices></domain>",
            disk.display()
        ),
    )?;
    let args = [
        "-i",
        "libvirtxml",
        &arg(&domain),
        "-o",
        "local",
        "-os",
        &arg(out.path()),
        "--compat",
    ];
    ok(args)?;
    let xml = fs::read_to_string(out.path().join("bsd.xml"))?;
    ensure!(
        xml.contains("e1000e") && xml.contains("52:54:00:11:22:33") && xml.contains("sata"),
        "{xml}"
    );
    Ok(())
}

#[test]
fn a_sleeping_guest_is_copied_by_compat_as_it_is() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("asleep.raw");
    fs::File::create(&disk)?.set_len(16 << 20)?;
    ensure!(
        Command::new("mkswap").arg(&disk).output()?.status.success(),
        "mkswap failed"
    );
    let file = fs::File::options().write(true).open(&disk)?;
    // S1SUSPEND replaces SWAPSPACE2 at the end of the first page (kernel/power/swap.c); behind it is memory.
    file.write_all_at(b"S1SUSPEND\0", 4096 - 10)?;
    file.write_all_at(&[0x5a; 8192], 1 << 20)?;
    let out = tempfile::tempdir()?;
    let line = refused(convert(&disk, out.path(), &["--on-unknown=copy"]))?;
    ensure!(
        line.contains("hibernat") && line.contains("--compat"),
        "{line}"
    );
    ok(convert(&disk, out.path(), &["--compat"]))?;
    ensure!(
        fs::read(out.path().join("bsd-sda"))? == fs::read(&disk)?,
        "the copy differs"
    );
    Ok(())
}
