//! The runner run by real shells below a directory, and what starts it in each init.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A guest's tree with the runner and these scripts.
struct Guest {
    dir: tempfile::TempDir,
}

impl Guest {
    fn new(scripts: &[(&str, &str)]) -> Self {
        let guest = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(guest.at("/var/log")).unwrap();
        guest.put("/var/lib/v2v/firstboot/run", RUNNER);
        for (name, body) in scripts {
            guest.put(&format!("/var/lib/v2v/firstboot/scripts/{name}"), body);
        }
        guest
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    fn log(&self) -> String {
        self.text("/var/log/v2v-firstboot.log")
    }

    fn spawn<S: AsRef<std::ffi::OsStr>>(&self, shell: &[S]) -> Child {
        let (program, args) = shell.split_first().unwrap();
        Command::new(program)
            .args(args)
            .arg(self.at("/var/lib/v2v/firstboot/run"))
            .env("V2V_FIRSTBOOT_ROOT", self.dir.path())
            .env("V2V_FIRSTBOOT_LIMIT", "4")
            .env("OUT", self.at("/out"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn boot<S: AsRef<std::ffi::OsStr>>(&self, shell: &[S]) {
        assert!(self.spawn(shell).wait().unwrap().success());
    }
}

/// Every shell that is here: a guest's may be any of them.
fn shells() -> Vec<Vec<String>> {
    let all = [
        "/bin/sh".to_owned(),
        "/bin/dash".to_owned(),
        "/bin/bash --posix".to_owned(),
        "/bin/busybox sh".to_owned(),
    ];
    all.iter()
        .map(|shell| shell.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|shell| Path::new(&shell[0]).is_file())
        .collect()
}

#[test]
fn scripts_run_once_in_order_and_everything_goes() {
    for shell in shells() {
        let guest = Guest::new(&[
            ("002-second.again", "echo two >>\"$OUT\"; exit 3\n"),
            (
                "001-first",
                "#!/bin/sh -e\necho one >>\"$OUT\"\ncat\necho said\n",
            ),
            ("003-other", "#!/no/such/interpreter\n"),
            (
                "010-last",
                "#!/usr/bin/env sh\necho \"three $(umask)\" >>\"$OUT\"\n",
            ),
        ]);
        guest.put(
            "/etc/inittab",
            "id:3:initdefault:\nv2v:2345:once:/bin/sh /var/lib/v2v/firstboot/run\n",
        );
        guest.put("/etc/sv/v2v-firstboot/run", "x");
        guest.put("/etc/unit", "x");
        guest.put(
            "/var/lib/v2v/firstboot/hooks",
            "line /etc/inittab\nfile /etc/unit\ndir /etc/sv/v2v-firstboot\n",
        );
        guest.boot(&shell);
        assert_eq!(guest.text("/out"), "one\ntwo\nthree 0022\n", "{shell:?}");
        let log = guest.log();
        for said in [
            "001-first starts",
            "\nsaid\n",
            "002-second.again ended with status 3",
            "003-other needs /no/such/interpreter",
            "all done",
        ] {
            assert!(log.contains(said), "{shell:?} {said}: {log}");
        }
        let mode = fs::metadata(guest.at("/var/log/v2v-firstboot.log")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        assert!(!guest.at("/var/lib/v2v").exists(), "{shell:?}");
        assert!(!guest.at("/etc/unit").exists() && !guest.at("/etc/sv/v2v-firstboot").exists());
        assert_eq!(guest.text("/etc/inittab"), "id:3:initdefault:\n");
    }
}

#[test]
fn a_reset_in_the_middle_repeats_only_what_may_be_repeated() {
    for (name, runs) in [("002-slow", 1), ("002-slow.again", 2)] {
        let guest = Guest::new(&[
            ("001-first", "echo first >>\"$OUT\"\n"),
            (name, "echo slow >>\"$OUT\"\nsleep 60\n"),
            ("003-last", "echo last >>\"$OUT\"\n"),
        ]);
        let mut child = guest.spawn(&["/bin/sh"]);
        let begun = Instant::now();
        while !guest.text("/out").contains("slow") {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", guest.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What the reset would have ended: the script's session, by its leader's number.
        let session: i32 = guest
            .text("/var/lib/v2v/firstboot/child")
            .trim()
            .parse()
            .unwrap();
        let group = rustix::process::Pid::from_raw(session).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        guest.boot(&["/bin/sh"]);
        let out = guest.text("/out");
        assert_eq!(out.matches("first").count(), 1, "{out}");
        assert_eq!(out.matches("slow").count(), runs, "{out}");
        assert_eq!(out.matches("last").count(), 1, "{out}");
        assert!(guest.log().contains("was interrupted"), "{}", guest.log());
        assert!(!guest.at("/var/lib/v2v").exists());
    }
}

#[test]
fn a_script_that_hangs_is_stopped_with_what_it_started() {
    let guest = Guest::new(&[
        ("001-hangs", "sh -c 'sleep 4711' &\nwait\n"),
        ("002-next", "echo next >>\"$OUT\"\n"),
    ]);
    guest.boot(&["/bin/sh"]);
    assert_eq!(guest.text("/out"), "next\n");
    assert!(
        guest.log().contains("001-hangs was stopped"),
        "{}",
        guest.log()
    );
    let left = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x004711\x00")
    });
    assert!(!left);
}

#[test]
fn without_a_place_for_the_log_the_scripts_run_all_the_same() {
    let guest = Guest::new(&[("001-first", "echo one >>\"$OUT\"\n")]);
    fs::remove_dir(guest.at("/var/log")).unwrap();
    guest.boot(&["/bin/sh"]);
    assert_eq!(guest.text("/out"), "one\n");
}

#[test]
fn names_are_made_safe_for_files() {
    let script = |name: &str, repeatable| Script {
        name: name.into(),
        body: String::new(),
        repeatable,
    };
    assert_eq!(
        script("remove-tools", true).file_name(7),
        "007-remove-tools.again"
    );
    assert_eq!(
        script("../My Script\n.again", false).file_name(12),
        "012-my-script--again"
    );
}

#[test]
fn each_init_has_its_way_of_starting_the_runner() {
    let tree = crate::tests::tree::Tree::debian();
    let root = tree.root();
    let mut guest = tree.inspect();
    let options = types::ConvertOptions::default();
    let mut show = |init: &str| {
        guest.init = init.into();
        let lent = crate::Lent::default();
        let context = Context::new(&root, &guest, &tree.storage, &options, &lent);
        hooks::hooks(&context, true).map(|hooks| hooks.iter().map(hooks::Hook::line).collect())
    };
    let expected: [(&str, Option<&str>); 5] = [
        (
            "systemd",
            Some(
                "file /etc/systemd/system/v2v-firstboot.service\nfile /etc/systemd/system/multi-user.target.wants/v2v-firstboot.service\n",
            ),
        ),
        ("upstart", Some("file /etc/init/v2v-firstboot.conf\n")),
        (
            "openrc",
            Some("file /etc/init.d/v2v-firstboot\nfile /etc/runlevels/default/v2v-firstboot\n"),
        ),
        (
            "runit",
            Some(
                "file /etc/sv/v2v-firstboot/run\nfile /etc/runit/runsvdir/default/v2v-firstboot\ndir /etc/sv/v2v-firstboot\n",
            ),
        ),
        ("sysvinit", None),
    ];
    for (init, hooks) in expected {
        let found: Option<String> = show(init);
        assert_eq!(found.as_deref(), hooks, "{init}");
    }
    tree.put("/etc/inittab", b"id:2:initdefault:\n");
    assert_eq!(show("sysvinit").as_deref(), Some("line /etc/inittab\n"));
}
