use registry::Value;
use types::{Customise, Password};

use super::{apply, plan};
use crate::payload::tests::payload;
use crate::windows::convert::Context;
use crate::windows::steps::testing::{Guest, Outcome};

fn guest(changes: Vec<Customise>) -> Guest {
    let mut guest = Guest::new();
    guest.write("/Windows/win.ini", b"[fonts]\r\nmci=1\r\n");
    guest.write("/Users/Public/a.txt", b"a");
    guest.options.customise = changes;
    guest
}

fn both(context: &mut Context<'_>) -> crate::Result<()> {
    plan(context)?;
    assert!(context.recorder.changes().is_empty());
    apply(context)
}

fn run(guest: &Guest) -> Outcome {
    guest.run(both)
}

fn refusal(change: Customise) -> String {
    let guest = guest(vec![change]);
    guest.try_run(|context| plan(context)).unwrap_err()
}

#[test]
fn files_are_found_whatever_the_case_and_keep_their_lines() {
    let mut guest = guest(vec![
        Customise::Edit {
            path: "c:\\windows\\WIN.INI".into(),
            expression: "s/mci=1$/mci=2/".into(),
        },
        Customise::AppendLine {
            path: "/WINDOWS/win.ini".into(),
            line: "x=y".into(),
        },
        Customise::Mkdir {
            path: "C:\\Temp\\New".into(),
        },
        Customise::Write {
            path: "/temp/new/b.txt".into(),
            content: "b".into(),
        },
        Customise::Upload {
            payload: "0/tool.exe".into(),
            to: "C:\\TEMP\\".into(),
        },
        Customise::CopyIn {
            payload: "1/tree".into(),
            to: "/users/public".into(),
        },
        Customise::Touch {
            path: "/Temp/c".into(),
        },
        Customise::Delete {
            path: "C:\\users\\PUBLIC\\*.TXT".into(),
        },
    ]);
    guest.payload = payload(&[
        ("0/tool.exe", 0o755, b"MZ"),
        ("1/tree/", 0o755, b""),
        ("1/tree/sub/", 0o755, b""),
        ("1/tree/sub/f", 0o644, b"f"),
    ]);
    let outcome = run(&guest);
    assert_eq!(
        guest.read("/Windows/win.ini").unwrap(),
        b"[fonts]\r\nmci=2\r\nx=y\r\n"
    );
    assert_eq!(guest.read("/Temp/New/b.txt").unwrap(), b"b");
    assert_eq!(guest.read("/Temp/tool.exe").unwrap(), b"MZ");
    assert_eq!(guest.read("/Users/Public/tree/sub/f").unwrap(), b"f");
    assert_eq!(guest.read("/Temp/c").unwrap(), b"");
    assert!(guest.read("/Users/Public/a.txt").is_none());
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

#[test]
fn what_is_not_possible_is_refused_before_anything_is_changed() {
    let path = || "C:\\a".to_owned();
    for (change, want) in [
        (
            Customise::Password {
                user: "Administrator".into(),
                password: Password::Locked,
            },
            "net user Administrator",
        ),
        (
            Customise::SshInject {
                user: "a".into(),
                key: "k".into(),
            },
            "--ssh-inject is not possible",
        ),
        (
            Customise::Chmod {
                mode: 0o644,
                path: path(),
            },
            "icacls",
        ),
        (
            Customise::Link {
                target: "t".into(),
                link: path(),
            },
            "mklink",
        ),
        (
            Customise::Run {
                name: "x".into(),
                script: "s".into(),
            },
            "use --firstboot",
        ),
    ] {
        let error = refusal(change.clone());
        assert!(error.contains(want), "{change:?}: {error}");
    }
}

#[test]
fn paths_names_and_scripts_that_windows_has_not_are_refused() {
    let path = || "C:\\a".to_owned();
    for (change, want) in [
        (
            Customise::Mkdir {
                path: "D:\\data".into(),
            },
            "only files of drive C:",
        ),
        (
            Customise::Mkdir {
                path: "\\\\server\\share".into(),
            },
            "own drive",
        ),
        (
            Customise::Write {
                path: "/a/../b".into(),
                content: String::new(),
            },
            "found ..",
        ),
        (Customise::Touch { path: "/a*".into() }, "found a*"),
        (
            Customise::Touch {
                path: "/none/a".into(),
            },
            "--mkdir makes it",
        ),
        (
            Customise::Delete {
                path: "C:\\".into(),
            },
            "the whole guest",
        ),
        (
            Customise::Write {
                path: "/windows/system32/CONFIG/system".into(),
                content: String::new(),
            },
            "writes this hive",
        ),
        (
            Customise::Edit {
                path: path(),
                expression: "y/a/b/".into(),
            },
            "only substitutions",
        ),
        (
            Customise::Edit {
                path: path(),
                expression: "s/a/b/".into(),
            },
            "no such file",
        ),
        (
            Customise::Upload {
                payload: "9".into(),
                to: path(),
            },
            "the payload has no 9",
        ),
        (
            Customise::Firstboot {
                name: "a.sh".into(),
                script: "#!/bin/sh\n".into(),
            },
            "batch file",
        ),
        (
            Customise::Hostname {
                name: "a-name-too-long-1".into(),
            },
            "at most 15",
        ),
        (
            Customise::Hostname {
                name: "12345".into(),
            },
            "not digits alone",
        ),
        (Customise::Hostname { name: "a b".into() }, "found a b"),
        (
            Customise::Timezone {
                zone: "Mars/Olympus".into(),
            },
            "tzutil /l",
        ),
    ] {
        let error = refusal(change.clone());
        assert!(error.contains(want), "{change:?}: {error}");
    }
}

#[test]
fn windows_itself_is_not_deleted() {
    for path in [
        "C:\\Win*",
        "/windows/system32",
        "C:\\WINDOWS\\System32\\Config",
    ] {
        let guest = guest(vec![Customise::Delete { path: path.into() }]);
        let error = guest.try_run(both).unwrap_err();
        assert!(error.contains("holds Windows"), "{path}: {error}");
        assert!(guest.read("/Windows/win.ini").is_some());
    }
}

/// cmd.exe has no sets.
#[test]
fn only_stars_and_question_marks_are_wildcards() {
    let guest = guest(vec![Customise::Delete {
        path: "C:\\Users\\Public\\[A]?.T*".into(),
    }]);
    for name in ["[a]1.txt", "[a].txt", "a1.txt"] {
        guest.write(&format!("/Users/Public/{name}"), b"");
    }
    let outcome = run(&guest);
    assert_eq!(guest.read("/Users/Public/[a]1.txt"), None);
    assert!(guest.read("/Users/Public/[a].txt").is_some());
    assert!(guest.read("/Users/Public/a1.txt").is_some());
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

#[test]
fn the_name_is_set_in_every_control_set() {
    let mut guest = guest(vec![Customise::Hostname {
        name: "Web-01.example.org".into(),
    }]);
    guest.windows.control_sets = vec!["ControlSet001".into(), "ControlSet003".into()];
    for set in ["ControlSet001", "ControlSet003"] {
        let tcpip = format!("{set}\\Services\\Tcpip\\Parameters");
        guest.system(&tcpip, "Hostname", Value::text("old"));
    }
    let outcome = run(&guest);
    for set in ["ControlSet001", "ControlSet003"] {
        let name = format!("{set}\\Control\\ComputerName\\ComputerName");
        assert_eq!(
            outcome.system(&name, "ComputerName"),
            Some(Value::text("WEB-01"))
        );
        let tcpip = format!("{set}\\Services\\Tcpip\\Parameters");
        for (value, want) in [
            ("Hostname", "Web-01"),
            ("NV Hostname", "Web-01"),
            ("Domain", "example.org"),
            ("NV Domain", "example.org"),
        ] {
            assert_eq!(
                outcome.system(&tcpip, value),
                Some(Value::text(want)),
                "{value}"
            );
        }
    }
    assert!(outcome.warnings.is_empty());
    assert!(guest.again(&outcome, both).changes.is_empty());
    // A member of a domain is told what to do, a controller is not renamed.
    guest.system(
        "ControlSet001\\Services\\Netlogon",
        "Start",
        Value::dword(2),
    );
    assert!(run(&guest).warnings[0].contains("join it again"));
    guest.windows.product_type = "LanmanNT".into();
    assert!(
        guest
            .try_run(both)
            .unwrap_err()
            .contains("domain controller")
    );
}

#[test]
fn the_time_zone_is_taken_from_what_windows_knows() {
    let mut guest = guest(vec![Customise::Timezone {
        zone: "Europe/Berlin".into(),
    }]);
    let zone = "Microsoft\\Windows NT\\CurrentVersion\\Time Zones\\W. Europe Standard Time";
    let mut tzi = Vec::new();
    for bias in [-60i32, 0, -60] {
        tzi.extend(bias.to_le_bytes());
    }
    tzi.extend([1; 16]);
    tzi.extend([2; 16]);
    guest.software(zone, "TZI", Value::binary(tzi));
    guest.software(zone, "MUI_Std", Value::text("@tzres.dll,-322"));
    guest.software(zone, "Std", Value::text("W. Europe Standard Time"));
    guest.software(zone, "Dlt", Value::text("W. Europe Daylight Time"));
    let outcome = run(&guest);
    let path = "ControlSet001\\Control\\TimeZoneInformation";
    for (name, want) in [
        ("Bias", Value::dword(0xffff_ffc4)),
        ("StandardBias", Value::dword(0)),
        ("DaylightBias", Value::dword(0xffff_ffc4)),
        ("StandardStart", Value::binary([1; 16])),
        ("DaylightStart", Value::binary([2; 16])),
        ("StandardName", Value::text("@tzres.dll,-322")),
        ("DaylightName", Value::text("W. Europe Daylight Time")),
        ("TimeZoneKeyName", Value::text("W. Europe Standard Time")),
        ("DynamicDaylightTimeDisabled", Value::dword(0)),
    ] {
        assert_eq!(outcome.system(path, name), Some(want), "{name}");
    }
    assert!(guest.again(&outcome, both).changes.is_empty());
    // Its own name is as good; a city that is not there is not guessed.
    guest.options.customise = vec![Customise::Timezone {
        zone: "w. europe standard time".into(),
    }];
    assert_eq!(run(&guest).changes.len(), 9);
    guest.options.customise = vec![Customise::Timezone {
        zone: "Asia/Tokyo".into(),
    }];
    assert!(
        guest
            .try_run(both)
            .unwrap_err()
            .contains("found Asia/Tokyo")
    );
}

#[test]
fn scripts_run_at_the_first_boot() {
    let mut guest = guest(vec![
        Customise::Firstboot {
            name: "Set up.bat".into(),
            script: "echo hello\n".into(),
        },
        Customise::Firstboot {
            name: "join.PS1".into(),
            script: "Write-Output 'ü'".into(),
        },
    ]);
    let outcome = run(&guest);
    assert_eq!(outcome.script("custom-0-set-up-bat"), Some("echo hello\n"));
    let script = outcome.script("custom-1-join-ps1").unwrap();
    assert!(script.contains("-ExecutionPolicy Bypass -File \"%V2V_DIR%\\custom-1-join-ps1.ps1\""));
    assert_eq!(
        outcome.file("custom-1-join-ps1.ps1"),
        Some("\u{feff}Write-Output 'ü'")
    );
    guest.programs = false;
    assert!(
        guest
            .try_run(both)
            .unwrap_err()
            .contains("no first-boot service")
    );
}
