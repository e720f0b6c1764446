//! The SFTP client against OpenSSH's own server, run by a script in ssh's place, and by a real sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::{SourceKind, VmxPlace, open as open_source};

const SERVERS: [&str; 3] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
];
/// Not a multiple of a READ, and more than are in flight at once.
const DISK_LEN: usize = (5 << 20) + 12_345;

fn sftp_server() -> Option<&'static str> {
    let found = SERVERS.into_iter().find(|path| Path::new(path).is_file());
    if found.is_none() {
        testkit::skip("sftp-server is not installed");
    }
    found
}

fn disk() -> Vec<u8> {
    (0..DISK_LEN)
        .map(|n| ((n * 31) ^ (n >> 9)).to_le_bytes()[0])
        .collect()
}

/// A machine with a raw disk, in `dir/vm`.
fn machine(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir.join("vm")).unwrap();
    fs::create_dir_all(dir.join("other")).unwrap();
    let vmx = dir.join("vm/my vm.vmx");
    let text = "displayName = \"far\"\nmemsize = \"64\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"d.img\"\n";
    fs::write(&vmx, text).unwrap();
    fs::write(dir.join("vm/d.img"), disk()).unwrap();
    fs::write(dir.join("other/secret"), "s").unwrap();
    vmx
}

/// A program in place of ssh.
fn script(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("fake-ssh");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn place(uri: String, program: PathBuf) -> SshPlace {
    SshPlace {
        uri,
        program: Some(program),
        ..SshPlace::default()
    }
}

fn raw() -> SourceOptions {
    SourceOptions {
        format: Some(image::formats::Format::Raw),
        ..SourceOptions::default()
    }
}

/// Opens the machine and compares its disk, from two threads.
fn read_all(place: SshPlace) {
    let opened = open_source(&SourceKind::Vmx(VmxPlace::Ssh(place)), &raw()).unwrap();
    assert_eq!(opened.machine.name, "far");
    let source = &opened.disks[0];
    let want = disk();
    let padded = DISK_LEN.next_multiple_of(512);
    assert!([DISK_LEN as u64, padded as u64].contains(&source.virtual_size()));
    std::thread::scope(|scope| {
        for (start, len) in [(0, DISK_LEN), (777, 3 << 20), (DISK_LEN - 1, 1)] {
            let want = &want;
            scope.spawn(move || {
                let mut found = vec![0; len];
                source.read_at(&mut found, start as u64).unwrap();
                assert!(
                    found == want[start..start + len],
                    "{len} bytes from {start}"
                );
            });
        }
    });
}

#[test]
fn a_machine_is_read_through_openssh_s_sftp_server() {
    let Some(server) = sftp_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let vmx = machine(dir.path());
    let log = dir.path().join("args");
    let program = script(
        dir.path(),
        &format!("echo \"$*\" > {}\nexec {server}", log.display()),
    );
    let uri = format!("ssh://root@esxi.example.com:2222{}", vmx.display()).replace(' ', "%20");
    read_all(place(uri, program));
    let args = fs::read_to_string(log).unwrap();
    assert!(
        args.contains("-p 2222 -l root -s -- esxi.example.com sftp"),
        "{args}"
    );
}

#[test]
fn files_of_other_folders_are_not_opened() {
    let Some(server) = sftp_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let vmx = machine(dir.path());
    let program = script(dir.path(), &format!("exec {server}"));
    let secret = dir.path().join("other/secret");
    std::os::unix::fs::symlink(&secret, dir.path().join("vm/link.img")).unwrap();
    for (name, base, found) in [
        ("../other/secret", None, false),
        (secret.to_str().unwrap(), None, false),
        ("link.img", None, false),
        ("vm/d.img", None, true),
        ("/vmfs/volumes/gone/d.img", None, true),
        ("gone.img", None, false),
        ("../other/secret", Some(dir.path()), true),
    ] {
        let text = format!("scsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"{name}\"\n");
        fs::write(&vmx, text).unwrap();
        let uri = format!("ssh://h{}", vmx.display());
        let kind = SourceKind::Vmx(VmxPlace::Ssh(place(uri, program.clone())));
        let options = SourceOptions {
            base_dir: base.map(Path::to_owned),
            ..raw()
        };
        let opened = open_source(&kind, &options);
        assert_eq!(opened.is_ok(), found, "{name}: {opened:?}");
    }
}

#[test]
fn a_server_that_is_none_or_goes_away_is_an_error() {
    let Some(server) = sftp_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let vmx = machine(dir.path());
    let uri = format!("ssh://h{}", vmx.display());
    for (body, word) in [
        ("exit 255", "could not connect"),
        ("echo Welcome to this host; exec cat", "login script"),
        ("exit 0", " ssh"),
    ] {
        let program = script(dir.path(), body);
        let kind = SourceKind::Vmx(VmxPlace::Ssh(place(uri.clone(), program)));
        let error = open_source(&kind, &raw()).unwrap_err();
        assert!(error.to_string().contains(word), "{body}: {error}");
    }
    // The connection breaks while the disk is read.
    let pid = dir.path().join("pid");
    let program = script(
        dir.path(),
        &format!("echo $$ > {}\nexec {server}", pid.display()),
    );
    let opened = open_source(&SourceKind::Vmx(VmxPlace::Ssh(place(uri, program))), &raw()).unwrap();
    let pid = fs::read_to_string(pid).unwrap();
    let status = Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(status.success());
    let error = opened.disks[0]
        .read_at(&mut vec![0; DISK_LEN], 0)
        .unwrap_err();
    assert!(error.to_string().contains("ssh"), "{error}");
}

#[test]
fn uris_are_read_as_virt_v2v_reads_them() {
    let parse = |text: &str| Uri::parse(text).unwrap();
    let uri = parse("ssh://root@esxi:22/vmfs/volumes/data store (1)/vm/vm.vmx");
    assert_eq!((uri.user.as_deref(), uri.port), (Some("root"), Some(22)));
    assert_eq!(
        uri.path,
        Path::new("/vmfs/volumes/data store (1)/vm/vm.vmx")
    );
    let uri = parse("ssh://dom%5Cadmin@[fe80::1]/a%20b+c/100%.vmx");
    assert_eq!(uri.user.as_deref(), Some("dom\\admin"));
    assert_eq!((uri.host.as_str(), uri.port), ("fe80::1", None));
    assert_eq!(uri.path, Path::new("/a b+c/100%.vmx"));
    for bad in [
        "http://h/x",
        "ssh://h",
        "ssh:///x",
        "ssh://-oProxyCommand=x/y",
        "ssh://-l@h/y",
        "ssh://u:p@h/y",
        "ssh://h:99999/y",
        "ssh://[::1/y",
    ] {
        assert!(Uri::parse(bad).is_err(), "{bad}");
    }
}

/// A real sshd on the loopback address with keys of its own.
#[test]
fn a_machine_is_read_through_a_real_sshd() {
    let Some(server) = sftp_server() else { return };
    if !testkit::require_tool("sshd") || !testkit::require_tool("ssh-keygen") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let vmx = machine(dir.path());
    let at = |name: &str| dir.path().join(name);
    for key in ["host", "user"] {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(at(key))
            .status()
            .unwrap();
        assert!(status.success());
    }
    fs::copy(at("user.pub"), at("authorized")).unwrap();
    fs::write(
        at("sshd_config"),
        format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nSubsystem sftp {server}\nStrictModes no\nUsePAM no\nPidFile none\n",
            dir.path().display()
        ),
    )
    .unwrap();
    // sshd serves the one connection on its stdin (-i), so no port is needed.
    let program = script(
        dir.path(),
        &format!(
            "exec ssh -F none -o IdentityFile={0}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ProxyCommand='/usr/sbin/sshd -i -f {0}/sshd_config' \"$@\"",
            dir.path().display()
        ),
    );
    if testkit::is_root() {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    read_all(place(format!("ssh://localhost{}", vmx.display()), program));
}
