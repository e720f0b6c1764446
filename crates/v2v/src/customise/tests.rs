//! Every option and selector.

use std::fs;

use clap::Parser;
use types::Password;

use super::*;
use crate::cli::Cli;

fn args(words: &[&str]) -> CustomiseArgs {
    Cli::parse_from([&["v2v"], words].concat()).customise
}

fn read(words: &[&str]) -> Result<Customisation> {
    let mut args = args(words);
    args.expand()?;
    args.read(true)
}

fn changes(words: &[&str]) -> Vec<Customise> {
    read(words)
        .unwrap_or_else(|error| panic!("{words:?}: {error:#}"))
        .changes
}

fn refusal(words: &[&str]) -> String {
    let line = format!(
        "{:#}",
        read(words).err().unwrap_or_else(|| panic!("{words:?}"))
    );
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn the_order_of_the_command_line_counts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("commands");
    fs::write(&file, "touch /two\nmkdir /three\n").unwrap();
    let found = changes(&[
        "--mkdir=/one",
        "--commands-from-file",
        file.to_str().unwrap(),
        "--delete=/four*",
        "--mkdir=/five",
        "--touch=/six",
    ]);
    let path = |path: &str| path.to_owned();
    assert_eq!(
        found,
        [
            Customise::Mkdir { path: path("/one") },
            Customise::Touch { path: path("/two") },
            Customise::Mkdir {
                path: path("/three")
            },
            Customise::Delete {
                path: path("/four*")
            },
            Customise::Mkdir {
                path: path("/five")
            },
            Customise::Touch { path: path("/six") },
        ]
    );
}

#[test]
fn passwords_come_from_every_selector() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, "from: file\nnot this\n").unwrap();
    let file = format!("--root-password=file:{}", file.display());
    let clear = |text: &str| Password::Clear(text.to_owned());
    for (word, user, want) in [
        ("--root-password=password:a:b", "root", vec![clear("a:b")]),
        (&file, "root", vec![clear("from: file")]),
        ("--password=kim:password:x", "kim", vec![clear("x")]),
        ("--password=kim:disabled", "kim", vec![Password::Disabled]),
        ("--password=kim:locked", "kim", vec![Password::Locked]),
        (
            "--root-password=locked:password:y",
            "root",
            vec![clear("y"), Password::Locked],
        ),
        (
            "--root-password=hashed:$6$a$b",
            "root",
            vec![Password::Hashed("$6$a$b".into())],
        ),
    ] {
        let found = changes(&[word]);
        let want: Vec<_> = want
            .into_iter()
            .map(|password| Customise::Password {
                user: user.to_owned(),
                password,
            })
            .collect();
        assert_eq!(found, want, "{word}");
    }
}

#[test]
fn random_passwords_are_told_once_and_used() {
    let mut args = args(&["--root-password=random", "--password=kim:locked:random"]);
    let generated = args.expand().unwrap();
    assert_eq!(generated.len(), 2);
    assert_ne!(generated[0].password, generated[1].password);
    let found = args.read(false).unwrap().changes;
    let want = |generated: &Generated| Customise::Password {
        user: generated.user.clone(),
        password: Password::Clear(generated.password.clone()),
    };
    assert_eq!(found[..2], [want(&generated[0]), want(&generated[1])]);
    assert_eq!(generated[1].user, "kim");
    assert_eq!(found.len(), 3);
    assert!(args.expand().unwrap().is_empty());
}

#[test]
fn passwords_are_in_no_message_and_no_debug_output() {
    for word in [
        "--root-password=Secret1",
        "--root-password=passwd:Secret1",
        "--password=Secret1",
        "--password=kim:Secret1",
        "--root-password=locked:Secret1",
        "--root-password=hashed:Secret1",
        "--write=Secret1",
        "--append-line=Secret1",
    ] {
        let line = refusal(&[word]);
        assert!(
            !line.contains("Secret1") && line.contains("expected"),
            "{word}: {line}"
        );
    }
    let read = read(&["--root-password=password:Secret1"]).unwrap();
    let cli = Cli::parse_from(["v2v", "--root-password=password:Secret1"]);
    assert!(!format!("{read:?}{cli:?}").contains("Secret1"));
}

#[test]
fn ssh_keys_come_from_every_selector() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(
        &file,
        "# mine\nssh-rsa AAAAB3 a\n\nfrom=\"10.*\" ssh-ed25519 AAAAC3 b\n",
    )
    .unwrap();
    let file_word = format!("--ssh-inject=kim:file:{}", file.display());
    let key = |user: &str, key: &str| Customise::SshInject {
        user: user.into(),
        key: key.into(),
    };
    assert_eq!(
        changes(&[
            &file_word,
            "--ssh-inject=root:string:ecdsa-sha2-nistp256 AAAAE2 c"
        ]),
        [
            key("kim", "ssh-rsa AAAAB3 a"),
            key("kim", "from=\"10.*\" ssh-ed25519 AAAAC3 b"),
            key("root", "ecdsa-sha2-nistp256 AAAAE2 c"),
        ]
    );
    fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    assert!(refusal(&[&file_word]).contains("private key"));
    for (word, want) in [
        ("--ssh-inject=kim:string:hello", "expected a public key"),
        ("--ssh-inject=kim:string:", "no key"),
        ("--ssh-inject=kim:ssh-rsa AAAA", "USER:string:KEY"),
        ("--ssh-inject=kim:file:/no/such", "/no/such"),
        ("--ssh-inject=a b", "name of an account"),
    ] {
        assert!(refusal(&[word]).contains(want), "{word}");
    }
}

#[test]
fn files_of_the_host_become_members_of_the_payload() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a:b");
    fs::write(&odd, "x").unwrap();
    let upload = format!("--upload={}:/srv/x", odd.display());
    let copy = format!("--copy-in={}:/srv", dir.path().display());
    let read = read(&[&upload, &copy]).unwrap();
    let folder = dir.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(
        read.changes,
        [
            Customise::Upload {
                payload: "0/a:b".into(),
                to: "/srv/x".into()
            },
            Customise::CopyIn {
                payload: format!("1/{folder}"),
                to: "/srv".into()
            },
        ]
    );
    assert_eq!(read.payload[0].name, "0/a:b");
    assert_eq!(read.payload[0].path, fs::canonicalize(&odd).unwrap());
    let folder = format!("--upload={}:/srv/x", dir.path().display());
    assert!(refusal(&[&folder]).contains("expected a regular file"));
    assert!(refusal(&["--upload=/etc/passwd:srv"]).contains("begins with /"));
    assert!(refusal(&["--upload=/no/such:/srv"]).contains("/no/such"));
    assert!(refusal(&["--copy-in=/dev/null:/srv"]).contains("a file or folder"));
}

#[test]
fn scripts_and_commands_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("setup.sh");
    fs::write(&script, "#!/bin/sh\necho\n").unwrap();
    let script = script.to_str().unwrap();
    let text = || "#!/bin/sh\necho\n".to_owned();
    assert_eq!(
        changes(&[
            "--run",
            script,
            "--firstboot",
            script,
            "--run-command=a b",
            "--firstboot-command=c"
        ]),
        [
            Customise::Run {
                name: "--run setup.sh".into(),
                script: text()
            },
            Customise::Firstboot {
                name: "setup.sh".into(),
                script: text()
            },
            Customise::Run {
                name: "--run-command".into(),
                script: "a b\n".into()
            },
            Customise::Firstboot {
                name: "command".into(),
                script: "c\n".into()
            },
        ]
    );
    for words in [["--run", script], ["--run-command", "true"]] {
        let error = args(&words).read(false).unwrap_err().to_string();
        assert!(
            error.contains("--allow-guest-code") && error.contains(words[0]),
            "{error}"
        );
    }
    args(&["--firstboot", script]).read(false).unwrap();
}

#[test]
fn the_plain_options_are_read() {
    let text = |text: &str| text.to_owned();
    assert_eq!(
        changes(&[
            "--hostname=db1.example.org",
            "--timezone=America/Argentina/Buenos_Aires",
            "--write=/etc/motd:a:b",
            "--append-line=/etc/motd:c",
            "--edit=/etc/motd:s/a:b/c/g",
            "--chmod=0640:/etc/motd",
            "--chmod=4755:/bin/x",
            "--link=../t:/a:/b",
        ]),
        [
            Customise::Hostname {
                name: text("db1.example.org")
            },
            Customise::Timezone {
                zone: text("America/Argentina/Buenos_Aires")
            },
            Customise::Write {
                path: text("/etc/motd"),
                content: text("a:b")
            },
            Customise::AppendLine {
                path: text("/etc/motd"),
                line: text("c")
            },
            Customise::Edit {
                path: text("/etc/motd"),
                expression: text("s/a:b/c/g")
            },
            Customise::Chmod {
                mode: 0o640,
                path: text("/etc/motd")
            },
            Customise::Chmod {
                mode: 0o4755,
                path: text("/bin/x")
            },
            Customise::Link {
                target: text("../t"),
                link: text("/a")
            },
            Customise::Link {
                target: text("../t"),
                link: text("/b")
            },
        ]
    );
}

#[test]
fn wrong_values_are_refused_by_option() {
    for (word, want) in [
        ("--hostname=a_b", "--hostname a_b"),
        ("--hostname=-a", "--hostname"),
        ("--hostname=a..b", "--hostname"),
        ("--hostname=", "--hostname"),
        ("--timezone=../etc", "--timezone"),
        ("--timezone=/Europe", "--timezone"),
        ("--write=etc/x:y", "begins with /"),
        ("--write=/:y", "below /"),
        ("--write=/a/../b:y", "without `..`"),
        ("--append-line=/a:b\nc", "one line"),
        ("--edit=/a:y/a/b/", "--run-command"),
        ("--edit=/a", "FILE:EXPR"),
        ("--chmod=99:/a", "octal"),
        ("--chmod=10000:/a", "octal"),
        ("--chmod=u+x:/a", "octal"),
        ("--chmod=/a", "MODE:FILE"),
        ("--delete=/", "below /"),
        ("--delete=x", "begins with /"),
        ("--mkdir=x", "begins with /"),
        ("--touch=x", "begins with /"),
        ("--link=/a", "TARGET:LINK"),
        ("--link=/a:b", "begins with /"),
        ("--run=/no/such", "/no/such"),
        ("--run-command= ", "empty"),
        ("--firstboot-command=", "empty"),
        ("--commands-from-file=/no/such", "/no/such"),
        ("--root-password=password:", "empty"),
        ("--root-password=file:/no/such", "/no/such"),
    ] {
        let line = refusal(&[word]);
        assert!(line.contains(want), "{word}: {line}");
    }
}

#[test]
fn what_a_job_of_the_server_may_not_have_is_named() {
    for (word, allowed) in [
        ("--root-password=disabled", false),
        ("--password=kim:password:x", false),
        ("--ssh-inject=kim", false),
        ("--ssh-inject=kim:file:/etc/shadow", false),
        ("--ssh-inject=kim:file:/x:string:y", false),
        ("--ssh-inject=kim:string:ssh-rsa AAAA", true),
        ("--upload=/etc/shadow:/x", false),
        ("--copy-in=/etc:/x", false),
        ("--firstboot=/x", false),
        ("--run=/x", false),
        ("--commands-from-file=/x", false),
        ("--hostname=a", true),
        ("--firstboot-command=a", true),
        ("--write=/a:b", true),
    ] {
        assert_eq!(args(&[word]).not_for_a_job().is_none(), allowed, "{word}");
    }
}
