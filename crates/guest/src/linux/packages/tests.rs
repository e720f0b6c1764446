//! Databases made by rpm, db_load and sqlite3 themselves where they are there, and by hand.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::tests::tree::{pipe, run, tools};

fn at(dir: &Path) -> Root {
    Root::open(dir).unwrap()
}

fn put(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A header as rpm stores it: counts, index, store. `pad` bytes of another tag come behind.
pub(crate) fn header(name: &str, version: &str, pad: usize) -> Vec<u8> {
    let tags: [(u32, Vec<u8>); 5] = [
        (1000, name.as_bytes().to_vec()),
        (1001, version.as_bytes().to_vec()),
        (1002, b"1.el8".to_vec()),
        (1022, b"x86_64".to_vec()),
        (1004, vec![b'x'; pad]),
    ];
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for (tag, value) in &tags {
        for number in [*tag, 6, u32::try_from(store.len()).unwrap(), 1] {
            index.extend_from_slice(&number.to_be_bytes());
        }
        store.extend_from_slice(value);
        store.push(0);
    }
    let mut blob = Vec::new();
    blob.extend_from_slice(&5u32.to_be_bytes());
    blob.extend_from_slice(&u32::try_from(store.len()).unwrap().to_be_bytes());
    [blob, index, store].concat()
}

fn names(packages: &Packages) -> Vec<String> {
    let mut names: Vec<String> = packages
        .installed
        .iter()
        .map(|package| format!("{}={}:{}", package.name, package.version, package.arch))
        .collect();
    names.sort();
    names
}

fn expected(count: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..count)
        .map(|n| format!("package{n}=1.{n}-1.el8:x86_64"))
        .collect();
    all.sort();
    all
}

/// Sizes around what fits into a page, and a header of megabytes.
fn pad(n: usize) -> usize {
    [0, 200, 3_000, 3_700, 5_000, 70_000, 2_000_000][n % 7]
}

#[test]
fn only_installed_packages_of_dpkg_count() {
    let status = "Package: open-vm-tools\nStatus: install ok installed\nVersion: 2\n\n\
                  Package: virtualbox-guest-utils\nStatus: deinstall ok config-files\n";
    let packages = Packages::new("dpkg", Ok(parse_dpkg(status)));
    assert_eq!(names(&packages), ["open-vm-tools=2:"]);
}

#[test]
fn directories_and_lists_of_the_other_managers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "/var/lib/pacman/local/open-vm-tools-6:12.3.5-1/desc",
        b"",
    );
    assert_eq!(
        names(&Packages::read(&at(dir.path()))),
        ["open-vm-tools=6:12.3.5-1:"]
    );
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "/var/db/pkg/app-emulation/open-vm-tools-12.3.5-r1/CONTENTS",
        b"",
    );
    put(
        dir.path(),
        "/var/db/pkg/sys-apps/busybox-1.36.1/CONTENTS",
        b"",
    );
    assert_eq!(
        names(&Packages::read(&at(dir.path()))),
        [
            "app-emulation/open-vm-tools=12.3.5-r1:",
            "sys-apps/busybox=1.36.1:"
        ]
    );
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "/var/db/xbps/pkgdb-0.38.plist",
        b"<dict>\n<key>open-vm-tools</key>\n<dict>\n<key>pkgver</key>\n<string>open-vm-tools-12.3.5_1</string>\n</dict></dict>",
    );
    assert_eq!(
        names(&Packages::read(&at(dir.path()))),
        ["open-vm-tools=12.3.5_1:"]
    );
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "/lib/apk/db/installed",
        b"C:Q1x\nP:open-vm-tools\nV:12.3-r0\nA:x86_64\n\nP:musl\nV:1\n",
    );
    assert_eq!(
        names(&Packages::read(&at(dir.path()))),
        ["musl=1:", "open-vm-tools=12.3-r0:x86_64"]
    );
}

#[test]
fn a_database_of_sqlite_is_read_with_its_overflow_pages_and_log() {
    if !tools(&["sqlite3"]) {
        return;
    }
    for page_size in [512, 4096, 65536] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("var/lib/rpm/rpmdb.sqlite");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let count = 150;
        let mut sql = format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL;\n\
             CREATE TABLE Name (key TEXT NOT NULL, hnum INTEGER NOT NULL);\n\
             CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);\n.bail on\n\
             .dbconfig no_ckpt_on_close on\n"
        );
        for n in 0..count {
            let blob = header(
                &format!("package{n}"),
                &format!("1.{n}"),
                pad(n).min(80_000),
            );
            let hex = crate::recorder::hex(&blob);
            sql += &format!("INSERT INTO Packages (blob) VALUES (x'{hex}');\n");
            if n == 100 {
                sql += "PRAGMA wal_checkpoint(TRUNCATE);\nPRAGMA wal_autocheckpoint=0;\n";
            }
        }
        pipe(Command::new("sqlite3").arg(&path), sql.as_bytes());
        let wal = fs::metadata(path.with_file_name("rpmdb.sqlite-wal")).unwrap();
        assert!(wal.len() > 0, "the test wants packages in the log");
        assert_eq!(names(&Packages::read(&at(dir.path()))), expected(count));
    }
}

#[test]
fn a_hash_of_berkeley_db_is_read_in_either_byte_order() {
    if !tools(&["db5.3_load"]) {
        return;
    }
    for order in ["1234", "4321"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("var/lib/rpm/Packages");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = format!(
            "VERSION=3\nformat=bytevalue\ntype=hash\ndb_lorder={order}\ndb_pagesize=4096\nHEADER=END\n 00000000\n 2a000000\n"
        );
        for n in 0..200u32 {
            let blob = header(&format!("package{n}"), &format!("1.{n}"), pad(n as usize));
            let key = crate::recorder::hex(&(n + 1).to_le_bytes());
            text += &format!(" {key}\n {}\n", crate::recorder::hex(&blob));
        }
        text += "DATA=END\n";
        pipe(Command::new("db5.3_load").arg(&path), text.as_bytes());
        assert_eq!(names(&Packages::read(&at(dir.path()))), expected(200));
    }
}

#[test]
fn a_database_that_rpm_itself_makes_is_read() {
    if !tools(&["rpmdb"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("var/lib/rpm");
    fs::create_dir_all(&db).unwrap();
    let list = dir.path().join("headers");
    // rpmdb --importdb reads headers as a package file has them, magic first.
    let mut bytes = Vec::new();
    for n in 0..60 {
        bytes.extend_from_slice(&[0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0]);
        bytes.extend(header(&format!("package{n}"), &format!("1.{n}"), pad(n)));
    }
    fs::write(&list, bytes).unwrap();
    let script = r#"exec "$@" <"$LIST""#;
    run(Command::new("sh")
        .env("LIST", &list)
        .args(["-c", script, "sh", "rpmdb"])
        .args(["--define", "_db_backend sqlite", "--dbpath"])
        .arg(&db)
        .arg("--importdb"));
    assert!(db.join("rpmdb.sqlite").is_file());
    assert_eq!(names(&Packages::read(&at(dir.path()))), expected(60));
}

#[test]
fn ndb_is_read() {
    let mut file = vec![0u8; 4096 * 2];
    file[..4].copy_from_slice(b"RpmP");
    file[12..16].copy_from_slice(&1u32.to_le_bytes());
    for n in 0..3u32 {
        let blob = header(&format!("package{n}"), &format!("1.{n}"), 100);
        let block = u32::try_from(file.len() / 16).unwrap();
        let slot = 32 + usize::try_from(n).unwrap() * 32;
        file[slot..slot + 4].copy_from_slice(b"Slot");
        file[slot + 4..slot + 8].copy_from_slice(&(n + 1).to_le_bytes());
        file[slot + 8..slot + 12].copy_from_slice(&block.to_le_bytes());
        file.extend_from_slice(b"BlbS");
        file.extend_from_slice(&(n + 1).to_le_bytes());
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&u32::try_from(blob.len()).unwrap().to_le_bytes());
        file.extend_from_slice(&blob);
        file.resize(file.len().next_multiple_of(16), 0);
    }
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "/usr/lib/sysimage/rpm/Packages.db", &file);
    assert_eq!(names(&Packages::read(&at(dir.path()))), expected(3));
}

#[test]
fn damaged_databases_end_and_do_not_panic() {
    if !tools(&["sqlite3"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("var/lib/rpm/rpmdb.sqlite");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut sql = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB);\n".to_owned();
    for n in 0..40 {
        let hex = crate::recorder::hex(&header("p", "1", 100 * n));
        sql += &format!("INSERT INTO Packages (blob) VALUES (x'{hex}');\n");
    }
    pipe(Command::new("sqlite3").arg(&path), sql.as_bytes());
    let good = fs::read(&path).unwrap();
    let mut state = 1u32;
    for _ in 0..400 {
        let mut bad = good.clone();
        for _ in 0..20 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = state as usize % bad.len();
            bad[at] = (state >> 24) as u8;
        }
        bad.truncate(good.len() - (state as usize % 5000));
        fs::write(&path, &bad).unwrap();
        let _ = Packages::read(&at(dir.path()));
        // The same bytes as the other formats, with their magics.
        bad[..4].copy_from_slice(b"RpmP");
        put(dir.path(), "/usr/lib/sysimage/rpm/Packages.db", &bad);
        let _ = Packages::read(&at(dir.path()));
        bad[12..16].copy_from_slice(&[0x61, 0x15, 6, 0]);
        bad[20..24].copy_from_slice(&512u32.to_le_bytes());
        for page in 1..bad.len() / 512 {
            bad[page * 512 + 25] = [13, 7, 2][page % 3];
        }
        fs::remove_file(dir.path().join("usr/lib/sysimage/rpm/Packages.db")).unwrap();
        put(dir.path(), "/usr/lib/sysimage/rpm/Packages", &bad);
        let _ = Packages::read(&at(dir.path()));
        fs::remove_file(dir.path().join("usr/lib/sysimage/rpm/Packages")).unwrap();
    }
}
