//! Hives through other people's readers: hivexregedit, notatin and regipy see the same keys and values as our own reader, in
//! the hives of the fixtures, in edited ones, and in dirty ones that were recovered from their logs. notatin replays the logs
//! itself, with its own reading of the hashes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "unwrap is how a test fails; how much was compared is for whoever runs it by hand"
)]

mod hivex;
mod notatin;
mod regipy;
mod tree;
#[path = "../common/venv.rs"]
mod venv;

use std::fs;
use std::path::{Path, PathBuf};

use registry::{Hive, Kind, Logs, Value, testing};

use crate::tree::{Tree, ours, same};

/// 2026-01-01, as a FILETIME.
const NOW: u64 = 0x01dc_7ab1_7d40_0000;
const MACHINES: [&str; 2] = ["win7-x86-vmware", "win81-x64-virtualbox"];

/// The clean bytes of every hive of the fixtures, by name. The Windows 8.1 machine's came without their logs.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let Some(root) = testkit::fixture("hives").unwrap() else {
        testkit::skip("fixtures are absent: set V2V_FIXTURES");
        return Vec::new();
    };
    let mut found = Vec::new();
    for machine in MACHINES {
        for name in ["SYSTEM", "SOFTWARE"] {
            let file = find(&root, machine).unwrap().join(name);
            let hive = testing::settled(fs::read(file).unwrap());
            found.push((format!("{machine}/{name}"), hive));
        }
    }
    found
}

/// The folder of this name.
fn find(root: &Path, name: &str) -> Option<PathBuf> {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        if dir.ends_with(name) {
            return Some(dir);
        }
        let below = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        dirs.extend(below.filter(|path| path.is_dir()));
    }
    None
}

/// Asks all three readers.
fn agree(what: &str, hive: &Hive, file: &Path) {
    let ours = ours(hive);
    if testkit::require_tool("hivexregedit") {
        same(&format!("{what}: hivexregedit"), &ours, &hivex::read(file));
    }
    let theirs = notatin::read(file, &[]);
    same(&format!("{what}: notatin"), &notatin::cut(&ours), &theirs);
    if let Some(python) = regipy::python() {
        same(
            &format!("{what}: regipy"),
            &ours,
            &regipy::read(&python, file),
        );
    }
}

/// Edits of every kind.
fn edit(hive: &mut Hive, number: u32) {
    let service = format!("ControlSet001\\Services\\v2v{number}");
    let set = |hive: &mut Hive, name: &str, value: &Value| {
        assert!(hive.set(&service, name, value).unwrap());
    };
    set(hive, "Start", &Value::dword(number));
    set(
        hive,
        "ImagePath",
        &Value::expand("System32\\drivers\\v2v.sys"),
    );
    set(hive, "Owners", &Value::multi(&["oem1.inf", "oem2.inf"]));
    set(hive, "", &Value::text("the default value"));
    set(
        hive,
        "Gr\u{fc}\u{df}e \u{65e5}\u{672c}",
        &Value::text("\u{65e5}\u{672c}"),
    );
    set(hive, "Empty", &Value::binary([]));
    set(hive, "Qword", &Value::qword(u64::from(number)));
    let strange = Value {
        kind: Kind(0xffff_0012),
        data: vec![1, 2, 3, 4, 5],
    };
    set(hive, "Property", &strange);
    for len in [16_344, 16_345, 70_000] {
        let data: Vec<u8> = (0..len).map(|at: u32| (at * 7 % 251) as u8).collect();
        set(hive, &format!("Data{len}"), &Value::binary(data));
    }
    for key in 0..300 {
        hive.create_key(&format!("{service}\\Enum\\{key:x}"))
            .unwrap();
    }
    for key in (0..300).step_by(2) {
        hive.delete_key(&format!("{service}\\Enum\\{key:x}"))
            .unwrap();
    }
    hive.delete_value(&service, "Data16344").unwrap();
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn all_readers_see_the_same_before_and_after_edits() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, bytes) in fixtures() {
        if name.ends_with("SOFTWARE") && !testkit::long_story() {
            continue;
        }
        let file = write(scratch.path(), "hive", &bytes);
        let mut hive = Hive::open(bytes).unwrap();
        agree(&name, &hive, &file);
        let before = ours(&hive);
        for number in 0..3 {
            edit(&mut hive, number);
        }
        let bytes = hive.to_bytes(NOW);
        let file = write(scratch.path(), "hive", &bytes);
        let mut hive = Hive::open(bytes).unwrap();
        agree(&format!("{name}, edited"), &hive, &file);
        for number in 0..3 {
            hive.delete_key(&format!("ControlSet001\\Services\\v2v{number}"))
                .unwrap();
        }
        if name.ends_with("SOFTWARE") {
            hive.delete_key("ControlSet001").unwrap();
        }
        same(&format!("{name}, undone"), &before, &ours(&hive));
    }
}

#[test]
fn recovered_hives_are_what_notatin_and_the_writer_see() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, bytes) in fixtures() {
        if name.ends_with("SOFTWARE") {
            continue;
        }
        let mut hive = Hive::open(bytes.clone()).unwrap();
        let mut versions = vec![bytes];
        for number in 0..5 {
            edit(&mut hive, number);
            versions.push(hive.to_bytes(NOW + u64::from(number)));
        }
        let slices: Vec<&[u8]> = versions.iter().map(Vec::as_slice).collect();
        let truth = ours(&hive);
        let made = testing::incremental(&slices);
        for (state, made) in [
            ("dirty", made.clone()),
            ("torn", made.torn(slices.last().unwrap())),
        ] {
            let what = format!("{name}, {state}");
            let recovered = Hive::recover(made.primary.clone(), &made.logs).unwrap();
            assert_eq!(recovered.replayed, 5, "{what}");
            same(
                &format!("{what}: the writer"),
                &truth,
                &ours(&recovered.hive),
            );
            let file = write(scratch.path(), "hive", &made.primary);
            let logs = [
                write(scratch.path(), "hive.LOG1", &made.logs.log1),
                write(scratch.path(), "hive.LOG2", &made.logs.log2),
            ];
            same(
                &format!("{what}: notatin's replay"),
                &truth,
                &notatin::read(&file, &logs),
            );
            let bytes = recovered.hive.to_bytes(NOW + 10);
            let file = write(scratch.path(), "hive", &bytes);
            agree(
                &format!("{what}, written"),
                &Hive::open(bytes).unwrap(),
                &file,
            );
        }
        a_cut_log_ends_where_notatin_ends(&name, &slices, scratch.path());
        let made = testing::dirt(slices[0], slices[5]).torn(slices[5]);
        old_logs_repair(&name, &truth, &made);
        old_logs_repair(&name, &truth, &made.with_one_log());
    }
}

/// A bit that is wrong in the fourth entry: three are applied by both.
fn a_cut_log_ends_where_notatin_ends(name: &str, versions: &[&[u8]], scratch: &Path) {
    let mut made = testing::incremental(versions);
    let at = 512 + 40 + 2000;
    made.logs.log2[at] ^= 1;
    let recovered = Hive::recover(made.primary.clone(), &made.logs).unwrap();
    assert_eq!(recovered.replayed, 3, "{name}");
    let file = write(scratch, "hive", &made.primary);
    let logs = [
        write(scratch, "hive.LOG1", &made.logs.log1),
        write(scratch, "hive.LOG2", &made.logs.log2),
    ];
    let what = format!("{name}, a bad entry: notatin's replay");
    same(&what, &ours(&recovered.hive), &notatin::read(&file, &logs));
}

fn old_logs_repair(name: &str, truth: &Tree, made: &testing::Made) {
    let logs: &Logs = &made.logs;
    let recovered = Hive::recover(made.primary.clone(), logs).unwrap();
    assert_eq!(recovered.replayed, 1);
    same(
        &format!("{name}, old log: the writer"),
        truth,
        &ours(&recovered.hive),
    );
}
