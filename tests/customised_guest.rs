//! virt-customize's options at conversion: everything that was asked for is in the guest, read back from its file system;
//! the guest boots, and its new root password is the one that opens it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::boot::{Boot, Bus};
use testkit::guest::{Sample, sample};
use v2v_tests::{arg, assert_nothing_left, ok, refused, run};

/// TCG on two cores that other tests use too.
const LOGIN: Duration = Duration::from_secs(400);
/// Where sda1 of the sample begins, in bytes.
const ROOT_OFFSET: u64 = 1 << 20;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmc tester@host";
/// Larger than what any buffer on the way holds.
const BLOB: usize = 40 << 20;

/// A request to debugfs on the root file system, which is not mounted.
fn debugfs(disk: &Path, request: &str) -> Result<String> {
    let output = Command::new("debugfs")
        .args(["-R", request])
        .arg(format!("{}?offset={ROOT_OFFSET}", disk.display()))
        .output()
        .context("starting debugfs")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What each option left, by content, mode or target.
fn look_at_files(disk: &Path) -> Result<()> {
    for (path, want) in [
        ("/etc/hostname", "db1.example.org\n"),
        ("/etc/motd", "hullo\nwelcome\n"),
        ("/srv/data/conf/sub/a.conf", "a=1\n"),
        ("/srv/touched", ""),
    ] {
        let found = debugfs(disk, &format!("cat {path}"))?;
        ensure!(found == want, "{path}: expected {want:?}, found {found:?}");
    }
    for (path, wants) in [
        ("/root/.ssh/authorized_keys", &[KEY][..]),
        ("/etc/shadow", &["root:$6$"]),
        (
            "/srv/ran",
            &[
                "12.",
                "\n0\nlo\nno nodes\nno mounts\nno chroot\n",
                "\nnull\n",
            ],
        ),
        ("/srv/ran2", &["Debian", "x86_64"]),
    ] {
        let found = debugfs(disk, &format!("cat {path}"))?;
        for want in wants {
            ensure!(
                found.contains(want),
                "{path}: expected {want:?} in {found:?}"
            );
        }
    }
    for (path, want) in [
        ("/root/.ssh", "Mode:  0700"),
        ("/root/.ssh/authorized_keys", "Mode:  0600"),
        ("/etc/motd", "Mode:  0600"),
        ("/etc/shadow", "Mode:  0640"),
        ("/srv/data/conf/sub/a.conf", "Mode:  0640"),
        ("/srv/data/conf/link", "Fast link dest: \"sub/a.conf\""),
        (
            "/etc/localtime",
            "Fast link dest: \"../usr/share/zoneinfo/Europe/Berlin\"",
        ),
        ("/srv/l2", "Fast link dest: \"/etc/motd\""),
        ("/srv/from/file", "Type: directory"),
    ] {
        let found = debugfs(disk, &format!("stat {path}"))?;
        ensure!(
            found.contains(want),
            "{path}: expected {want:?}, found {found}"
        );
    }
    ensure!(
        debugfs(disk, "stat /etc/network/interfaces.d")?.is_empty(),
        "not deleted"
    );
    Ok(())
}

#[test]
fn what_was_asked_for_is_in_the_guest() -> Result<()> {
    let guest = sample(Sample::Bios)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let host = tempfile::tempdir_in(testkit::target_dir())?;
    let at = |name: &str| host.path().join(name);
    let blob: Vec<u8> = (0..BLOB)
        .map(|at| u8::try_from(at * 7 % 251).unwrap_or_default())
        .collect();
    fs::write(at("blob"), &blob)?;
    fs::create_dir_all(at("conf/sub"))?;
    fs::write(at("conf/sub/a.conf"), "a=1\n")?;
    fs::set_permissions(at("conf/sub/a.conf"), fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::symlink("sub/a.conf", at("conf/link"))?;
    fs::write(at("secret"), "n3w-pass\n")?;
    fs::write(
        at("script"),
        "#!/bin/bash\nset -e\nexec > /srv/ran\ncat /etc/debian_version\nid -u\nls /sys/class/net\n\
         mknod /srv/node b 254 0 2>/dev/null || echo no nodes\nmount -t tmpfs x /mnt 2>/dev/null || echo no mounts\n\
         chroot / true 2>/dev/null || echo no chroot\nls /proc | grep -c '^[0-9]'\ntest -w /dev/null && echo null\n",
    )?;
    fs::write(
        at("commands"),
        "# more\nmkdir /srv/from/file\nappend-line /etc/motd:\\\n  welcome\n",
    )?;
    let words = [
        "--root-password".to_owned(),
        format!("file:{}", arg(at("secret"))),
        "--ssh-inject".to_owned(),
        format!("root:string:{KEY}"),
        "--hostname=db1.example.org".to_owned(),
        "--timezone=Europe/Berlin".to_owned(),
        "--mkdir=/srv/data".to_owned(),
        format!("--upload={}:/srv/data/blob.bin", arg(at("blob"))),
        format!("--copy-in={}:/srv/data", arg(at("conf"))),
        "--write=/etc/motd:hello\n".to_owned(),
        format!("--commands-from-file={}", arg(at("commands"))),
        "--edit=/etc/motd:s/^(h)ello$/$1ullo/".to_owned(),
        "--chmod=0600:/etc/motd".to_owned(),
        "--touch=/srv/touched".to_owned(),
        "--link=/etc/motd:/srv/l1:/srv/l2".to_owned(),
        "--delete=/etc/network/interfaces.d".to_owned(),
        "--firstboot-command=echo first".to_owned(),
        "--allow-guest-code".to_owned(),
        format!("--run={}", arg(at("script"))),
        "--run-command=dpkg --version | head -n 1 > /srv/ran2; uname -m >> /srv/ran2".to_owned(),
    ];
    let base = [
        "-i",
        "disk",
        &arg(&guest.raw),
        "-if",
        "raw",
        "-o",
        "local",
        "-of",
        "raw",
        "-on",
        "db1",
    ]
    .map(str::to_owned);
    let mut args = base.to_vec();
    args.extend(["-os".to_owned(), arg(out.path()), "-v".to_owned()]);
    args.extend(words);
    let output = run(&args)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "v2v failed: {stderr}");
    ensure!(!stderr.contains("n3w-pass"), "the password is in the log");
    let disk = out.path().join("db1-sda");

    look_at_files(&disk)?;
    let copy = at("copy");
    debugfs(&disk, &format!("dump /srv/data/blob.bin {}", arg(&copy)))?;
    ensure!(fs::read(&copy)? == blob, "the large file arrived otherwise");

    let mut boot = Boot::new(&disk, "raw").bus(Bus::Virtio).start()?;
    boot.wait_for("db1 login:", LOGIN)?;
    boot.login("n3w-pass", Duration::from_secs(120))?;
    Ok(())
}

#[test]
fn a_failing_script_fails_the_conversion_and_leaves_nothing() -> Result<()> {
    let guest = sample(Sample::Bios)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let line = refused([
        "-i",
        "disk",
        &arg(&guest.raw),
        "-if",
        "raw",
        "-o",
        "local",
        "-os",
        &arg(out.path()),
        "--allow-guest-code",
        "--run-command",
        "echo it is broken >&2; exit 7",
    ])?;
    ensure!(line.contains("exit status 7: it is broken"), "{line}");
    assert_nothing_left(out.path(), &[])
}

#[test]
fn what_cannot_be_done_is_refused_before_any_work() -> Result<()> {
    for (word, want) in [
        ("--run-command=true", "--allow-guest-code"),
        ("--root-password=password", "expected password:TEXT"),
        ("--upload=/no/such:/x", "/no/such"),
        ("--edit=/x:y/a/b/", "--run-command"),
    ] {
        // The source does not exist either: nobody looked.
        let line = refused(["-i", "disk", "/no/such/disk", "-o", "null", word])?;
        ensure!(line.contains(want), "{word}: {line}");
    }
    let line = refused([
        "-i",
        "disk",
        "/no/such/disk",
        "-o",
        "null",
        "--machine-readable",
        "--root-password=random",
    ])?;
    ensure!(line.contains("stream:stderr"), "{line}");
    Ok(())
}

#[test]
fn a_random_password_is_not_told_by_a_conversion_that_fails() -> Result<()> {
    let output = run([
        "-i",
        "disk",
        "/no/such/disk",
        "-o",
        "null",
        "--root-password=random",
    ])?;
    ensure!(!output.status.success() && output.stdout.is_empty());
    ensure!(ok(["--machine-readable"])?.contains("convert:linux"));
    Ok(())
}
