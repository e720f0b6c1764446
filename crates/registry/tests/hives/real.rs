//! The fixtures' hives: Windows 7 and 8.1. The second ones were copied from a running machine: their sequence numbers
//! differ by one and their logs are not there, so they are refused as dirty, and read here after that was mended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use registry::{ErrorKind, Hive, Value};

use crate::model::{Model, NOW, Random, close, edit, fold};

/// Folders of the pack.
const WINDOWS_7: &str = "win7-x86-vmware";
const WINDOWS_81: &str = "win81-x64-virtualbox";

fn fixture() -> Option<PathBuf> {
    let dir = testkit::fixture("hives").unwrap();
    if dir.is_none() {
        testkit::skip("fixtures are absent: set V2V_FIXTURES");
    }
    dir.map(|dir| dir.join("hives"))
}

fn read(path: &Path) -> Hive {
    let mut bytes = std::fs::read(path).unwrap();
    close(&mut bytes);
    Hive::open(bytes).unwrap()
}

fn all(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let machines = [WINDOWS_7, WINDOWS_81].map(|machine| dir.join(machine));
    machines
        .into_iter()
        .flat_map(|machine| ["SYSTEM", "SOFTWARE"].map(|hive| machine.join(hive)))
}

#[test]
fn real_hives_are_sound_and_read_whole() {
    let Some(dir) = fixture() else { return };
    for path in all(&dir) {
        let begun = Instant::now();
        let hive = read(&path);
        let summary = hive.verify().unwrap();
        println!("{}: {summary:?}, {:?}", path.display(), begun.elapsed());
        assert_eq!(summary.lost_bytes, 0);
        let model = Model::of(&hive);
        assert_eq!(summary.keys, model.0.len() as u64);
        let values = model.0.values().map(|(_, values)| values.len() as u64);
        assert_eq!(summary.values, values.sum::<u64>());
        // Every path leads back to its key.
        for (path, _) in model.0.values() {
            assert!(hive.has(&path.to_lowercase()).unwrap(), "{path}");
        }
        println!("whole: {:?}", begun.elapsed());
    }
}

#[test]
fn a_dirty_hive_without_logs_is_refused() {
    let Some(dir) = fixture() else { return };
    let bytes = std::fs::read(dir.join(WINDOWS_81).join("SYSTEM")).unwrap();
    let error = Hive::open(bytes).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Dirty);
    assert!(error.to_string().contains("3785 and 3784"), "{error}");
}

#[test]
fn what_is_not_edited_keeps_its_bytes() {
    let Some(dir) = fixture() else { return };
    let path = dir.join(WINDOWS_7).join("SYSTEM");
    let before = std::fs::read(&path).unwrap();
    let mut hive = read(&path);
    let differing = |after: &[u8]| {
        let pages = before.chunks(4096).zip(after.chunks(4096));
        pages.filter(|(before, after)| before != after).count()
    };
    // The base block and the time in the first bin.
    assert_eq!(differing(&hive.to_bytes(NOW)), 2);
    let service = "ControlSet001\\services\\viostor";
    for (name, number) in [("Start", 0), ("Type", 1), ("ErrorControl", 1)] {
        assert!(hive.set(service, name, &Value::dword(number)).unwrap());
    }
    let after = hive.to_bytes(NOW);
    assert!(differing(&after) < 12, "{} pages differ", differing(&after));
    assert!(hive.delete_key(service).unwrap());
    assert_eq!(Model::of(&hive), Model::of(&read(&path)));
}

/// Every thousandth key, as a place for edits.
fn roots(model: &Model) -> Vec<String> {
    let paths = model.0.values().map(|(path, _)| path.clone());
    paths
        .filter(|path| !path.is_empty())
        .step_by(1000)
        .collect()
}

#[test]
fn real_hives_bear_thousands_of_edits() {
    let Some(dir) = fixture() else { return };
    for machine in [WINDOWS_7, WINDOWS_81] {
        let mut hive = read(&dir.join(machine).join("SYSTEM"));
        let mut model = Model::of(&hive);
        let roots = roots(&model);
        let mut random = Random(81);
        for _ in 0..3 {
            let begun = Instant::now();
            edit(&mut hive, &mut model, &mut random, &roots, 1500);
            println!("{machine}: 1500 edits, {:?}", begun.elapsed());
            assert_eq!(hive.verify().unwrap().lost_bytes, 0);
            assert!(Model::of(&hive) == model);
        }
        let again = Hive::open(hive.to_bytes(NOW)).unwrap();
        assert!(Model::of(&again) == model);
    }
}

#[test]
fn the_largest_hive_is_edited_and_emptied() {
    let Some(dir) = fixture() else { return };
    let mut hive = read(&dir.join(WINDOWS_81).join("SOFTWARE"));
    let begun = Instant::now();
    for number in 0..3000 {
        let path = format!("Microsoft\\Windows\\CurrentVersion\\v2v\\{number}");
        hive.set(&path, "x", &Value::dword(number)).unwrap();
    }
    println!("3000 keys with a value: {:?}", begun.elapsed());
    hive.verify().unwrap();
    for key in hive.keys("").unwrap() {
        assert!(hive.delete_key(&key).unwrap());
    }
    println!("emptied: {:?}", begun.elapsed());
    let summary = hive.verify().unwrap();
    assert_eq!(
        (summary.keys, summary.descriptors, summary.lost_bytes),
        (1, 1, 0)
    );
}

#[test]
fn mutated_real_hives_never_panic() {
    let Some(dir) = fixture() else { return };
    let good = read(&dir.join(WINDOWS_81).join("SYSTEM")).to_bytes(NOW);
    let mut random = Random(3);
    let mut sound = 0;
    for _ in 0..60 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(4) {
            let at = 4096 + random.below(bytes.len() - 4100) / 4 * 4;
            let word = (random.below(bytes.len()) / 8 * 8) as u32;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let mut hive = Hive::open(bytes).unwrap();
        let verified = hive.verify().is_ok();
        let set = hive.set("ControlSet001\\Services\\v2v", "x", &Value::dword(1));
        assert_eq!(verified, set.is_ok());
        if verified {
            sound += 1;
            hive.verify().unwrap();
        }
    }
    println!("{sound} of 60 are sound");
}

/// A `.reg` export as keys and values; data as its text.
type Export = BTreeMap<String, BTreeMap<String, String>>;

fn exported(path: &Path) -> Export {
    let output = Command::new("hivexregedit")
        .env("PERL_UNICODE", "SO")
        .args(["--export", "--prefix", "X"])
        .arg(path)
        .arg("\\")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut export = Export::new();
    let mut key = String::new();
    for line in text.lines() {
        if let Some(path) = line
            .strip_prefix("[X")
            .and_then(|line| line.strip_suffix(']'))
        {
            key = fold(path.trim_start_matches('\\'));
            export.insert(key.clone(), BTreeMap::new());
        } else if let Some((name, data)) = split(line) {
            export
                .get_mut(&key)
                .unwrap()
                .insert(fold(&name), data.to_owned());
        }
    }
    export
}

/// `"name"=data` or `@=data`.
fn split(line: &str) -> Option<(String, &str)> {
    if let Some(data) = line.strip_prefix("@=") {
        return Some((String::new(), data));
    }
    let line = line.strip_prefix('"')?;
    let mut name = String::new();
    let mut letters = line.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?.1),
            '"' => return line.get(at + 2..).map(|data| (name, data)),
            letter => name.push(letter),
        }
    }
    None
}

fn expected(model: &Model) -> Export {
    let notation = |value: &Value| match (value.kind.0, value.data.as_slice()) {
        (4, &[a, b, c, d]) => format!("dword:{:08x}", u32::from_le_bytes([a, b, c, d])),
        (kind, data) => {
            let bytes: Vec<String> = data.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("hex({kind:x}):{}", bytes.join(","))
        }
    };
    let values = |values: &BTreeMap<String, (String, Value)>| {
        let values = values.iter();
        values
            .map(|(name, (_, value))| (name.clone(), notation(value)))
            .collect()
    };
    let keys = model.0.iter();
    keys.map(|(path, (_, all))| (path.clone(), values(all)))
        .collect()
}

fn same(path: &Path, model: &Model) {
    let (theirs, ours) = (exported(path), expected(model));
    assert_eq!(theirs.len(), ours.len());
    for ((their_path, their_values), (path, values)) in theirs.iter().zip(&ours) {
        assert_eq!(their_path, path);
        assert_eq!(their_values, values, "{path}");
    }
}

#[test]
fn hivex_reads_the_same_before_and_after_edits() {
    let Some(dir) = fixture() else { return };
    if !testkit::require_tool("hivexregedit") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    for machine in [WINDOWS_7, WINDOWS_81] {
        let mut hive = read(&dir.join(machine).join("SYSTEM"));
        let mut model = Model::of(&hive);
        let path = scratch.path().join("SYSTEM");
        std::fs::write(&path, hive.to_bytes(NOW)).unwrap();
        same(&path, &model);
        let roots = roots(&model);
        edit(&mut hive, &mut model, &mut Random(5), &roots, 1500);
        std::fs::write(&path, hive.to_bytes(NOW)).unwrap();
        same(&path, &model);
    }
}
