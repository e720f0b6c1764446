//! Lookups against libselinux itself where matchpathcon is there, and labels of whole conversions.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::tests::tree::{KVER, Packed, Tree, mac, options, run, tools};

const CONTEXTS: &str = "\
/.*\tsystem_u:object_r:default_t:s0
/.*\t-l\tsystem_u:object_r:link_t:s0
/etc(/.*)?\tsystem_u:object_r:etc_t:s0
/etc/systemd/system(/.*)?\tsystem_u:object_r:systemd_unit_file_t:s0
/etc/fstab\\.d(/.*)?\t<<none>>
/etc/mtab\t--\tsystem_u:object_r:mtab_t:s0
/usr/.*\tsystem_u:object_r:usr_t:s0
/usr/lib/.*\tsystem_u:object_r:lib_t:s0
/usr/(.*/)?bin(/.*)?\tsystem_u:object_r:bin_t:s0
/var/.*\tsystem_u:object_r:var_t:s0
/var/lib(/.*)?\tsystem_u:object_r:var_lib_t:s0
/etc/resolv\\.conf.*\t--\tsystem_u:object_r:net_conf_t:s0
/home/[^/]+/\\.ssh(/.*)?\tunconfined_u:object_r:ssh_home_t:s0
/dev/[shmxv]d[^/]*\t-b\tsystem_u:object_r:fixed_disk_device_t:s0
/etc/exact\tsystem_u:object_r:exact_t:s0
/etc/ex.*\tsystem_u:object_r:ex_t:s0
";

const PATHS: [(&str, char); 18] = [
    ("/", 'd'),
    ("/etc/passwd", '-'),
    ("/etc/systemd/system/x.service", '-'),
    ("/etc/systemd/systemd", '-'),
    ("/etc/mtab", '-'),
    ("/etc/mtab", 'l'),
    ("/usr/local/bin", 'd'),
    ("/usr/bin/sh", '-'),
    ("/usr/lib/systemd/x", '-'),
    ("/usr/local/lib/x", '-'),
    ("/etc/fstab.d/x", '-'),
    ("/etc/resolv.conf.bak", '-'),
    ("/home/me/.ssh/authorized_keys", '-'),
    ("/var/lib/v2v/firstboot/run", '-'),
    ("/etc/exact", '-'),
    ("/etc/exact2", '-'),
    ("/srv/x", 'l'),
    ("/lib/modules", 'd'),
];

fn policy_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("etc/selinux/targeted/contexts/files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("file_contexts"), CONTEXTS).unwrap();
    fs::write(
        files.join("file_contexts.local"),
        "/var/lib/v2v(/.*)?\tsystem_u:object_r:v2v_t:s0\n",
    )
    .unwrap();
    fs::write(
        files.join("file_contexts.subs_dist"),
        "/lib /usr/lib\n/usr/local /usr\n",
    )
    .unwrap();
    dir
}

fn contexts(dir: &tempfile::TempDir) -> Contexts {
    Contexts::read(&Root::open(dir.path()).unwrap(), "targeted").unwrap()
}

#[test]
fn the_last_pattern_counts_and_an_exact_path_more() {
    let dir = policy_tree();
    let contexts = contexts(&dir);
    let label = |path: &str, kind| match contexts.lookup(path, kind) {
        Wanted::Label(label) => label.split(':').nth(2).unwrap().to_owned(),
        other => format!("{other:?}"),
    };
    let found: Vec<String> = PATHS
        .iter()
        .map(|(path, kind)| label(path, *kind))
        .collect();
    assert_eq!(
        found,
        [
            "default_t",
            "etc_t",
            "systemd_unit_file_t",
            "etc_t",
            "mtab_t",
            "etc_t",
            "bin_t",
            "bin_t",
            "lib_t",
            "lib_t",
            "None",
            "net_conf_t",
            "ssh_home_t",
            "v2v_t",
            "exact_t",
            "ex_t",
            "link_t",
            "lib_t"
        ]
    );
}

#[test]
fn lookups_agree_with_libselinux() {
    if !tools(&["matchpathcon"]) {
        return;
    }
    let dir = policy_tree();
    let contexts = contexts(&dir);
    let file = dir
        .path()
        .join("etc/selinux/targeted/contexts/files/file_contexts");
    for (path, kind) in PATHS {
        let mode = match kind {
            'd' => "dir",
            'l' => "lnk_file",
            _ => "file",
        };
        let output = Command::new("matchpathcon")
            .arg("-f")
            .arg(&file)
            .args(["-n", "-N", "-m", mode, path])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let ours = match contexts.lookup(path, kind) {
            Wanted::Label(label) => label,
            _ => "<<none>>".to_owned(),
        };
        assert_eq!(ours, said, "{path} {kind} {output:?}");
    }
}

/// A whole policy of Debian, where V2V_UNPACKED has its file_contexts (selinux-policy-default, `dpkg-deb -x`), against every
/// path of the machine that tests. It adds to the test above only on request: installing a policy is no small thing.
#[test]
fn lookups_in_a_real_policy_agree_with_libselinux() {
    let Some(scratch) = std::env::var_os("V2V_UNPACKED").map(PathBuf::from) else {
        return;
    };
    let file = scratch.join("etc/selinux/default/contexts/files/file_contexts");
    let contexts = Contexts::read(&Root::open(&scratch).unwrap(), "default").unwrap();
    let script = "find /etc /usr/bin /usr/sbin /usr/lib/systemd /var /boot /root /home -xdev -maxdepth 4 -type f | sort | awk 'NR % 7 == 0' | head -3000";
    let list = run(Command::new("sh").args(["-c", script]));
    let list = String::from_utf8_lossy(&list).into_owned();
    let mut paths: Vec<&str> = list.lines().filter(|path| path.is_ascii()).collect();
    let ours = [
        "/var/lib/v2v/firstboot/scripts/001-x",
        "/etc/systemd/system/multi-user.target.wants/x.service",
        "/etc/modprobe.d/x.conf.pre-v2v",
        "/etc/udev/rules.d/70-x.rules",
        "/etc/fstab",
        "/boot/initrd.img-6.1.0",
        "/boot/grub/grub.cfg",
        "/etc/cloud/cloud.cfg.d/99_v2v.cfg",
        "/etc/rc3.d/K80x",
        "/lib/modules/x/modules.dep",
        "/usr/local/bin/x",
    ];
    paths.extend(ours);
    let output = Command::new("matchpathcon")
        .arg("-f")
        .arg(&file)
        .args(["-n", "-N", "-m", "file"])
        .args(&paths)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(said.len(), paths.len(), "{output:?}");
    for (path, said) in paths.iter().zip(said) {
        let ours = match contexts.lookup(path, '-') {
            Wanted::Label(label) => label,
            _ => "<<none>>".to_owned(),
        };
        assert_eq!(ours, said, "{path}");
    }
    eprintln!("{} paths agree", paths.len());
}

#[test]
fn a_policy_name_cannot_leave_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let set = |text: &str| {
        fs::create_dir_all(dir.path().join("etc/selinux")).unwrap();
        fs::write(dir.path().join("etc/selinux/config"), text).unwrap();
        policy(&Root::open(dir.path()).unwrap())
    };
    assert_eq!(set("SELINUX=enforcing\nSELINUXTYPE=mls\n"), "mls");
    assert_eq!(set("SELINUXTYPE=../../x\n"), "targeted");
    assert_eq!(set(""), "targeted");
}

#[test]
fn new_files_get_the_policys_labels_and_no_relabel_is_asked_for() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_initrd(KVER, &["sd_mod"], |cpio| cpio.to_vec());
    let policy = policy_tree();
    run(Command::new("cp")
        .arg("-r")
        .arg(policy.path().join("etc/selinux"))
        .arg(tree.at("/etc")));
    tree.put(
        "/etc/selinux/config",
        b"SELINUX=enforcing\nSELINUXTYPE=targeted\n",
    );
    let root = tree.root();
    let old = "system_u:object_r:old_t:s0";
    for path in ["/etc", "/etc/fstab", "/var", "/var/lib"] {
        if root.set_label(path, old).is_err() {
            eprintln!("SKIP: SELinux labels cannot be set here");
            return;
        }
    }
    tree.convert(&options(&[mac(1)]));
    assert!(!tree.at("/.autorelabel").exists());
    let label = |path: &str| root.label(path).unwrap().unwrap_or_default();
    let wants = "/etc/systemd/system/multi-user.target.wants";
    for (path, kind) in [
        ("/var/lib/v2v/firstboot/run", "v2v_t"),
        ("/var/lib/v2v/firstboot", "v2v_t"),
        ("/var/lib/v2v", "v2v_t"),
        ("/var/lib", "old_t"),
        (
            "/etc/systemd/system/v2v-firstboot.service",
            "systemd_unit_file_t",
        ),
        (
            &format!("{wants}/v2v-firstboot.service"),
            "systemd_unit_file_t",
        ),
        (wants, "systemd_unit_file_t"),
        ("/etc/fstab", "old_t"),
        ("/etc/default/grub", "etc_t"),
    ] {
        assert_eq!(
            label(path),
            format!("system_u:object_r:{kind}:s0"),
            "{path}"
        );
    }
    assert_eq!(tree.convert(&options(&[mac(1)])).changes, []);
}

#[test]
fn a_real_path_has_no_links_in_its_middle() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("usr/lib/x")).unwrap();
    std::os::unix::fs::symlink("usr/lib", at("lib")).unwrap();
    std::os::unix::fs::symlink("/lib/../lib/x", at("up")).unwrap();
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    fs::write(at("usr/lib/x/file"), "").unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert_eq!(root.real_path("/up/file").unwrap(), "/usr/lib/x/file");
    assert_eq!(root.real_path("lib").unwrap(), "/lib");
    assert_eq!(root.real_path("/up/../../../lib/x/").unwrap(), "/usr/lib/x");
    assert!(root.real_path("/loop/x").is_err());
}
