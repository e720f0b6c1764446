//! Each change on a tree, with hostile guests.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Mutex;

use types::{ConvertOptions, ConvertOutcome, Customise, Password};

use super::GuestCode;
use crate::payload::Payload;
use crate::payload::tests::payload;
use crate::tests::tree::Tree;
use crate::{ErrorKind, Lent, Result};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nkim:x:1000:1000:Kim,,,:/home/kim:/bin/bash\nghost:x:1001:1001::/home/ghost:/bin/sh\nops:x:1002:1002::/:/bin/sh\nlost:x:1003:1003::/nowhere:/bin/sh\n";
const SHADOW: &str = "root:$y$j9T$abc$def:19000:0:99999:7:::\n# note\nkim:!:0:0:99999:7:::\nops:*::0:99999:7:::\nlost:*:19000::::::\n";

fn tree() -> Tree {
    let tree = Tree::debian();
    tree.put("/etc/passwd", PASSWD.as_bytes());
    tree.put("/etc/shadow", SHADOW.as_bytes());
    fs::set_permissions(tree.at("/etc/shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    tree.put("/etc/hosts", b"127.0.0.1\tlocalhost\n127.0.1.1\tweb01\n");
    tree.put("/usr/share/zoneinfo/Europe/Berlin", b"TZif2");
    for dir in ["/root", "/home/kim", "/home/ghost", "/srv"] {
        fs::create_dir_all(tree.at(dir)).unwrap();
    }
    tree
}

fn apply_with(tree: &Tree, customise: Vec<Customise>, lent: &Lent<'_>) -> Result<ConvertOutcome> {
    let options = ConvertOptions {
        customise,
        allow_guest_code: true,
        ..ConvertOptions::default()
    };
    crate::convert_with(
        &tree.root(),
        &tree.inspect(),
        &tree.storage,
        &options,
        lent,
        &mut |_| {},
    )
}

fn apply(tree: &Tree, customise: Vec<Customise>) -> Result<ConvertOutcome> {
    apply_with(tree, customise, &Lent::default())
}

fn with_payload(
    tree: &Tree,
    payload: Payload,
    customise: Vec<Customise>,
) -> Result<ConvertOutcome> {
    let lent = Lent {
        payload,
        ..Lent::default()
    };
    apply_with(tree, customise, &lent)
}

/// The change is refused before anything is changed; returns the message.
fn refused(tree: &Tree, change: Customise) -> String {
    let before = tree.fingerprint();
    let error = apply(tree, vec![change]).unwrap_err();
    assert_eq!(before, tree.fingerprint(), "{error}");
    error.chain()
}

fn password(user: &str, password: Password) -> Customise {
    Customise::Password {
        user: user.into(),
        password,
    }
}

fn ssh(user: &str, key: &str) -> Customise {
    Customise::SshInject {
        user: user.into(),
        key: key.into(),
    }
}

fn shadow_line(tree: &Tree, user: &str) -> Vec<String> {
    let text = tree.text("/etc/shadow");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{user}:")));
    line.unwrap().split(':').map(str::to_owned).collect()
}

#[test]
fn a_password_is_hashed_in_place() {
    let tree = tree();
    let change = || vec![password("root", Password::Clear("s3cret: ö".into()))];
    let outcome = apply(&tree, change()).unwrap();
    let line = shadow_line(&tree, "root");
    assert!(line[1].starts_with("$6$"), "{line:?}");
    assert!(line[2].parse::<u64>().unwrap() > 19000);
    let untouched = |line: &&str| !line.starts_with("root:");
    let text = tree.text("/etc/shadow");
    assert!(
        text.lines()
            .filter(untouched)
            .eq(SHADOW.lines().filter(untouched))
    );
    let mode = fs::metadata(tree.at("/etc/shadow")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let report = serde_json::to_string(&outcome).unwrap();
    assert!(!report.contains("s3cret") && report.contains("/etc/shadow"));
    let step = outcome.steps.iter().find(|step| step.name == "customise");
    assert_eq!(step.unwrap().outcome, types::StepOutcome::Applied);

    let before = tree.fingerprint();
    apply(&tree, change()).unwrap();
    assert_eq!(
        before,
        tree.fingerprint(),
        "the same password was hashed again"
    );
}

#[test]
fn accounts_are_locked_disabled_and_given_hashes() {
    let tree = tree();
    let changes = vec![
        password("root", Password::Locked),
        password("root", Password::Locked),
        password("ops", Password::Hashed("$6$a$b".into())),
        password("kim", Password::Disabled),
    ];
    apply(&tree, changes).unwrap();
    assert_eq!(
        shadow_line(&tree, "root")[1..3],
        ["!$y$j9T$abc$def", "19000"]
    );
    // Ageing that is off, and a change that is due, stay.
    assert_eq!(shadow_line(&tree, "ops")[1..3], ["$6$a$b", ""]);
    assert_eq!(shadow_line(&tree, "kim")[1..3], ["*", "0"]);
}

#[test]
fn passwords_without_shadow_go_to_passwd_and_tcb() {
    let tree = tree();
    fs::remove_file(tree.at("/etc/shadow")).unwrap();
    let message = refused(&tree, password("root", Password::Disabled));
    assert!(message.contains("no shadow entry for root"), "{message}");
    tree.put("/etc/passwd", b"root:abc:0:0:root:/root:/bin/sh\n");
    apply(&tree, vec![password("root", Password::Clear("x".into()))]).unwrap();
    assert!(tree.text("/etc/passwd").starts_with("root:$6$"));
    assert!(
        tree.text("/etc/passwd")
            .ends_with(":0:0:root:/root:/bin/sh\n")
    );

    tree.put("/etc/tcb/root/shadow", b"root:*:1::::::\n");
    apply(&tree, vec![password("root", Password::Locked)]).unwrap();
    assert_eq!(tree.text("/etc/tcb/root/shadow"), "root:!*:1::::::\n");
}

#[test]
fn an_old_glibc_gets_md5() {
    let tree = tree();
    tree.put("/usr/lib/libcrypt-2.3.4.so", b"");
    apply(&tree, vec![password("root", Password::Clear("x".into()))]).unwrap();
    assert!(shadow_line(&tree, "root")[1].starts_with("$1$"));
}

#[test]
fn unknown_accounts_are_refused_before_any_change() {
    let tree = tree();
    for change in [
        password("nobody-here", Password::Disabled),
        ssh("nobody-here", "k"),
    ] {
        assert!(refused(&tree, change).contains("no account nobody-here"));
    }
    assert!(refused(&tree, password("ghost", Password::Disabled)).contains("no shadow entry"));
}

#[test]
fn a_key_is_added_once_with_owner_and_modes() {
    let tree = tree();
    let key = "ssh-ed25519 AAAA kim@desk";
    apply(&tree, vec![ssh("kim", key), ssh("kim", key)]).unwrap();
    apply(
        &tree,
        vec![ssh("kim", &format!("{key}\n")), ssh("root", key)],
    )
    .unwrap();
    assert_eq!(
        tree.text("/home/kim/.ssh/authorized_keys"),
        format!("{key}\n")
    );
    for (path, mode, owner) in [
        ("/home/kim/.ssh", 0o700, 1000),
        ("/home/kim/.ssh/authorized_keys", 0o600, 1000),
        ("/root/.ssh/authorized_keys", 0o600, 0),
    ] {
        let meta = fs::metadata(tree.at(path)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, owner), "{path}");
    }
    // A home at the root, and a file without a line end.
    tree.put("/.ssh/authorized_keys", b"old");
    apply(&tree, vec![ssh("ops", key)]).unwrap();
    assert_eq!(tree.text("/.ssh/authorized_keys"), format!("old\n{key}\n"));
    let error = apply(&tree, vec![ssh("lost", key)]).unwrap_err();
    assert!(
        error.to_string().contains("home directory of lost"),
        "{error}"
    );
}

#[test]
fn links_of_an_account_do_not_lead_to_another_s_keys() {
    let tree = tree();
    fs::create_dir(tree.at("/root/.ssh")).unwrap();
    symlink("/root/.ssh", tree.at("/home/kim/.ssh")).unwrap();
    assert!(
        apply(&tree, vec![ssh("kim", "k")])
            .unwrap_err()
            .chain()
            .contains("Symlink")
    );
    fs::create_dir(tree.at("/home/ghost/.ssh")).unwrap();
    symlink("/etc/shadow", tree.at("/home/ghost/.ssh/authorized_keys")).unwrap();
    assert!(
        apply(&tree, vec![ssh("ghost", "k")])
            .unwrap_err()
            .chain()
            .contains("Symlink")
    );
    assert_eq!(tree.text("/etc/shadow"), SHADOW);
    assert!(
        fs::read_dir(tree.at("/root/.ssh"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn the_host_name_is_set_wherever_it_is_kept() {
    let tree = tree();
    tree.put(
        "/etc/sysconfig/network",
        b"NETWORKING=yes\nHOSTNAME=web01\n",
    );
    tree.put("/etc/conf.d/hostname", b"# name\nhostname=\"web01\"\n");
    tree.put("/etc/cloud/cloud.cfg", b"preserve_hostname: false\n");
    let change = || {
        vec![Customise::Hostname {
            name: "db1.example.org".into(),
        }]
    };
    apply(&tree, change()).unwrap();
    assert_eq!(tree.text("/etc/hostname"), "db1.example.org\n");
    assert_eq!(
        tree.text("/etc/hosts"),
        "127.0.0.1\tlocalhost\n127.0.1.1\tdb1.example.org db1\n"
    );
    assert_eq!(
        tree.text("/etc/sysconfig/network"),
        "NETWORKING=yes\nHOSTNAME=db1.example.org\n"
    );
    assert_eq!(
        tree.text("/etc/conf.d/hostname"),
        "# name\nhostname=\"db1.example.org\"\n"
    );
    assert!(
        tree.text("/etc/cloud/cloud.cfg.d/99-v2v-hostname.cfg")
            .contains("true")
    );
    let before = tree.fingerprint();
    apply(&tree, change()).unwrap();
    assert_eq!(before, tree.fingerprint());
}

#[test]
fn the_time_zone_is_a_link_to_one_that_the_guest_has() {
    let tree = tree();
    tree.put("/etc/timezone", b"Etc/UTC\n");
    tree.put("/etc/sysconfig/clock", b"ZONE=\"UTC\"\n");
    symlink("/usr/share/zoneinfo/Etc/UTC", tree.at("/etc/localtime")).unwrap();
    let zone = |zone: &str| Customise::Timezone { zone: zone.into() };
    assert!(refused(&tree, zone("Mars/Base")).contains("no time zone Mars/Base"));
    apply(&tree, vec![zone("Europe/Berlin")]).unwrap();
    let link = fs::read_link(tree.at("/etc/localtime")).unwrap();
    assert_eq!(link.to_str(), Some("../usr/share/zoneinfo/Europe/Berlin"));
    assert_eq!(tree.text("/etc/timezone"), "Europe/Berlin\n");
    assert_eq!(
        tree.text("/etc/sysconfig/clock"),
        "ZONE=\"Europe/Berlin\"\n"
    );
}

fn upload(member: &str, to: &str) -> Customise {
    Customise::Upload {
        payload: member.into(),
        to: to.into(),
    }
}

#[test]
fn uploads_keep_their_mode_and_belong_to_root() {
    let tree = tree();
    tree.put("/srv/old", b"old");
    fs::set_permissions(tree.at("/srv/old"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(tree.at("/srv/old"), Some(1000), Some(1000)).unwrap();
    let files = || {
        payload(&[
            ("0/tool", 0o4755, b"#!/bin/sh\n"),
            ("1/conf", 0o640, b"new\n"),
        ])
    };
    let changes = || vec![upload("0/tool", "/srv"), upload("1/conf", "/srv/old")];
    let outcome = with_payload(&tree, files(), changes()).unwrap();
    for (path, mode) in [("/srv/tool", 0o4755), ("/srv/old", 0o640)] {
        let meta = fs::metadata(tree.at(path)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, 0), "{path}");
    }
    assert_eq!(tree.text("/srv/old"), "new\n");
    let hash = crate::recorder::sha256(b"new\n");
    assert!(
        outcome
            .changes
            .iter()
            .any(|change| change.after.as_deref() == Some(hash.as_str()))
    );
    let again = with_payload(&tree, files(), changes()).unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);

    for (to, word) in [("/srv/none/file", "--mkdir"), ("/srv/none/", "--mkdir")] {
        let error = with_payload(&tree, files(), vec![upload("0/tool", to)]).unwrap_err();
        assert!(error.to_string().contains(word), "{to}: {error}");
    }
}

#[test]
fn a_tree_is_copied_in_and_stays_inside_the_guest() {
    let tree = tree();
    let outside = tempfile::tempdir().unwrap();
    let files = payload(&[
        ("0/app/", 0o750, b""),
        ("0/app/bin/", 0o755, b""),
        ("0/app/bin/run", 0o755, b"run"),
        ("0/app/link", 0o777, b"->bin/run"),
    ]);
    // A link of the guest that would lead outside leads to a place inside.
    symlink(outside.path(), tree.at("/srv/app")).unwrap();
    fs::create_dir_all(tree.at(outside.path().to_str().unwrap())).unwrap();
    let change = Customise::CopyIn {
        payload: "0/app".into(),
        to: "/srv".into(),
    };
    with_payload(&tree, files, vec![change]).unwrap();
    let inside = outside.path().to_str().unwrap();
    assert_eq!(tree.text(&format!("{inside}/bin/run")), "run");
    let link = fs::read_link(tree.at(&format!("{inside}/link"))).unwrap();
    assert_eq!(link.to_str(), Some("bin/run"));
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
}

#[test]
fn what_does_not_fit_is_refused_before_any_change() {
    let tree = tree();
    let before = tree.fingerprint();
    // The table says 4 TiB; nothing of it is read.
    let file = tempfile::tempfile().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("0/huge").unwrap();
    header.set_size(1 << 42);
    header.set_mode(0o644);
    header.set_cksum();
    std::os::unix::fs::FileExt::write_all_at(&file, header.as_bytes(), 0).unwrap();
    let huge = Payload::open(file).unwrap();
    let error = with_payload(&tree, huge, vec![upload("0/huge", "/srv/new")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(before, tree.fingerprint());
}

#[test]
fn small_changes_do_what_their_words_say() {
    let tree = tree();
    tree.put("/etc/app.conf", b"port=1\nname=a");
    tree.put("/etc/script", b"x");
    let path = |path: &str| path.to_owned();
    let changes = vec![
        Customise::Mkdir {
            path: path("/srv/a/b//c/"),
        },
        Customise::Write {
            path: path("/srv/a/b/new"),
            content: "hi".into(),
        },
        Customise::AppendLine {
            path: path("/etc/app.conf"),
            line: "last=1".into(),
        },
        Customise::AppendLine {
            path: path("/etc/app.conf"),
            line: "last=1".into(),
        },
        Customise::Edit {
            path: path("/etc/app.conf"),
            expression: "s/^port=.*/port=2/; s/a$/b/".into(),
        },
        Customise::Chmod {
            mode: 0o4711,
            path: path("/etc/script"),
        },
        Customise::Touch {
            path: path("/srv/a/touched"),
        },
        Customise::Touch {
            path: path("/etc/script"),
        },
        Customise::Link {
            target: "/etc/app.conf".into(),
            link: path("/srv/l"),
        },
        Customise::Link {
            target: "../x".into(),
            link: path("/srv/l"),
        },
    ];
    apply(&tree, changes).unwrap();
    assert_eq!(tree.text("/srv/a/b/new"), "hi");
    assert_eq!(
        tree.text("/etc/app.conf"),
        "port=2\nname=b\nlast=1\nlast=1\n"
    );
    assert_eq!(
        fs::metadata(tree.at("/etc/script")).unwrap().mode() & 0o7777,
        0o4711
    );
    assert!(tree.at("/srv/a/b/c").is_dir() && tree.text("/srv/a/touched").is_empty());
    assert_eq!(
        fs::read_link(tree.at("/srv/l")).unwrap().to_str(),
        Some("../x")
    );
}

#[test]
fn wrong_changes_are_refused_before_any_change() {
    let tree = tree();
    let path = |path: &str| path.to_owned();
    for (change, word) in [
        (
            Customise::Write {
                path: path("/none/x"),
                content: String::new(),
            },
            "--mkdir",
        ),
        (
            Customise::Edit {
                path: path("/none"),
                expression: "s/a/b/".into(),
            },
            "no such file",
        ),
        (
            Customise::Edit {
                path: path("/etc/passwd"),
                expression: "tr/a/b/".into(),
            },
            "--run-command",
        ),
        (
            Customise::Chmod {
                mode: 0o644,
                path: path("/none"),
            },
            "no such file",
        ),
        (
            Customise::Link {
                target: "x".into(),
                link: path("/none/l"),
            },
            "--mkdir",
        ),
        (Customise::Delete { path: path("/./") }, "whole guest"),
        (
            Customise::Run {
                name: "x".into(),
                script: "true".into(),
            },
            "not possible here",
        ),
        (
            Customise::CopyIn {
                payload: "0/none".into(),
                to: path("/srv"),
            },
            "has no 0/none",
        ),
        (password("root", Password::Hashed("a:b".into())), "colon"),
    ] {
        let message = refused(&tree, change);
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn devices_and_directories_in_the_way_are_no_trap() {
    let tree = tree();
    crate::tests::tree::run(std::process::Command::new("mkfifo").arg(tree.at("/srv/fifo")));
    let path = || "/srv/fifo".to_owned();
    for change in [
        Customise::Write {
            path: path(),
            content: "x".into(),
        },
        Customise::AppendLine {
            path: path(),
            line: "x".into(),
        },
        Customise::Edit {
            path: path(),
            expression: "s/a/b/".into(),
        },
        Customise::Chmod {
            mode: 0o600,
            path: path(),
        },
        Customise::Touch { path: path() },
        Customise::Link {
            target: "x".into(),
            link: path(),
        },
        Customise::Link {
            target: "x".into(),
            link: "/etc".into(),
        },
        Customise::Write {
            path: "/etc".into(),
            content: "x".into(),
        },
    ] {
        let error = apply(&tree, vec![change.clone()]).unwrap_err();
        assert!(
            error.chain().contains("expected"),
            "{change:?}: {}",
            error.chain()
        );
    }
    assert!(tree.at("/etc").is_dir());
}

#[test]
fn deleting_takes_what_matches_and_never_leaves_the_guest() {
    let tree = tree();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "").unwrap();
    for name in ["a.log", "b.log", "c.txt", ".hid.log", "odd\nname.log"] {
        tree.put(&format!("/srv/{name}"), b"");
    }
    tree.put("/srv/deep/x/y/z", b"");
    symlink(outside.path(), tree.at("/srv/deep/out")).unwrap();
    symlink("/", tree.at("/srv/deep/x/up")).unwrap();
    symlink("c.txt", tree.at("/srv/link.log")).unwrap();
    let delete = |path: &str| Customise::Delete { path: path.into() };
    let changes = vec![
        delete("/srv/*.log"),
        delete("/srv/deep"),
        delete("/srv/none*"),
    ];
    let outcome = apply(&tree, changes).unwrap();
    let mut left: Vec<_> = fs::read_dir(tree.at("/srv"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".hid.log", "c.txt"]);
    assert!(outside.path().join("kept").exists() && tree.at("/etc/passwd").exists());
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("/srv/none*"))
    );
}

#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<String>>);

impl GuestCode for Recorded {
    fn run(&self, name: &str, script: &str) -> std::result::Result<(), String> {
        self.0.lock().unwrap().push(script.to_owned());
        if script == "false" {
            return Err(format!("exit status 1 of {name}"));
        }
        Ok(())
    }
}

#[test]
fn scripts_run_only_when_that_is_allowed_and_failing_ones_fail_the_conversion() {
    let tree = tree();
    let run = |script: &str| Customise::Run {
        name: "--run-command".into(),
        script: script.into(),
    };
    let code = Recorded::default();
    let lent = || Lent {
        payload: Payload::default(),
        guest_code: Some(&code),
        ..Lent::default()
    };
    apply_with(&tree, vec![run("true")], &lent()).unwrap();
    assert_eq!(*code.0.lock().unwrap(), ["true"]);
    let error = apply_with(&tree, vec![run("false")], &lent()).unwrap_err();
    assert!(error.to_string().contains("exit status 1"), "{error}");

    let options = ConvertOptions {
        customise: vec![run("true")],
        ..ConvertOptions::default()
    };
    let error = crate::convert_with(
        &tree.root(),
        &tree.inspect(),
        &tree.storage,
        &options,
        &lent(),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(error.to_string().contains("--allow-guest-code"), "{error}");
    let mut guest = tree.inspect();
    guest.arch = types::Arch::Other;
    let options = ConvertOptions {
        allow_guest_code: true,
        ..options
    };
    let error = crate::convert_with(
        &tree.root(),
        &guest,
        &tree.storage,
        &options,
        &lent(),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(error.to_string().contains("programs are for"), "{error}");
    assert_eq!(code.0.lock().unwrap().len(), 2);
}

#[test]
fn first_boot_scripts_get_names_of_their_own() {
    assert_eq!(
        super::script_name(3, "My Script.sh"),
        "custom-3-my-script-sh"
    );
    assert_eq!(super::script_name(0, "../x"), "custom-0-x");
    let tree = tree();
    let script = |script: &str| Customise::Firstboot {
        name: "hello".into(),
        script: script.into(),
    };
    let outcome = apply(&tree, vec![script("echo 1"), script("echo 2")]).unwrap();
    let whys: Vec<_> = outcome.changes.iter().map(|change| &change.path).collect();
    assert!(
        whys.iter().any(|path| path.contains("custom-0-hello")),
        "{whys:?}"
    );
    assert!(
        whys.iter().any(|path| path.contains("custom-1-hello")),
        "{whys:?}"
    );
}
