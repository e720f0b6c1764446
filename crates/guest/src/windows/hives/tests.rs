use std::fs;
use std::path::Path;
use std::process::Command;

use registry::{Hive, Kind, testing};
use types::Change;

use super::*;
use crate::tests::tree::{run, tools};

const TIME: u64 = 0x01d2_4504_0000_0000;
const CONFIG: &str = "Windows/System32/config";

/// SYSTEM with two control sets.
fn system() -> Hive {
    let mut hive = Hive::create("ROOT");
    for (name, number) in [
        ("Current", 2),
        ("Default", 1),
        ("LastKnownGood", 2),
        ("Failed", 3),
    ] {
        hive.set("Select", name, &Value::dword(number)).unwrap();
    }
    for set in ["ControlSet001", "ControlSet002", "ControlSet003"] {
        hive.set(&format!("{set}\\Services\\disk"), "Start", &Value::dword(0))
            .unwrap();
    }
    hive
}

fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    dir
}

fn fill(dir: &Path) {
    let config = dir.join(CONFIG);
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("SYSTEM"), system().to_bytes(TIME)).unwrap();
    let software = Hive::create("ROOT").to_bytes(TIME);
    fs::write(config.join("SOFTWARE"), software).unwrap();
}

fn file(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(CONFIG).join(name)).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let root = Root::open(dir).unwrap();
    root.names(CONFIG)
}

/// One conversion: every control set gets a driver.
fn convert(dir: &Path) -> Vec<Change> {
    let root = Root::open(dir).unwrap();
    let mut registry = Registry::open(&root, "/windows").unwrap();
    registry.check_space(&root).unwrap();
    let mut recorder = Recorder::new(&root);
    let start = Value::dword(0);
    for set in ["ControlSet002", "ControlSet001"] {
        let path = format!("{set}\\Services\\viostor");
        registry
            .set(
                &mut recorder,
                Which::System,
                &path,
                "Start",
                &start,
                "to boot",
            )
            .unwrap();
    }
    registry.save(&mut recorder).unwrap();
    recorder.finish().0
}

#[track_caller]
fn refusal(dir: &Path) -> Error {
    let root = Root::open(dir).unwrap();
    let error = Registry::open(&root, "/Windows").unwrap_err();
    let text = error.chain();
    assert!(!text.contains('\n') && text.contains("/SYSTEM"), "{text}");
    error
}

#[test]
fn edits_are_written_and_the_old_hive_is_kept() {
    let dir = machine();
    let old = file(dir.path(), "SYSTEM");
    let changes = convert(dir.path());
    let new = file(dir.path(), "SYSTEM");
    assert_ne!(new, old);
    assert_eq!(file(dir.path(), "SYSTEM.pre-v2v"), old);
    assert_eq!(names(dir.path()), ["SOFTWARE", "SYSTEM", "SYSTEM.pre-v2v"]);
    let hive = Hive::open(new.clone()).unwrap();
    hive.verify().unwrap();
    for (set, there) in [("001", true), ("002", true), ("003", false)] {
        let path = format!("ControlSet{set}\\Services\\viostor");
        assert_eq!(hive.has(&path).unwrap(), there, "{path}");
    }
    let lines: Vec<String> = changes.iter().map(|change| change.path.clone()).collect();
    assert_eq!(
        lines,
        [
            "HKLM\\SYSTEM\\ControlSet002\\Services\\viostor\\Start",
            "HKLM\\SYSTEM\\ControlSet001\\Services\\viostor\\Start",
            "/Windows/System32/config/SYSTEM.pre-v2v",
            "/Windows/System32/config/SYSTEM",
        ]
    );
    assert_eq!(changes[0].after.as_deref(), Some("dword:00000000"));

    // A second run changes nothing.
    assert!(convert(dir.path()).is_empty());
    assert_eq!(file(dir.path(), "SYSTEM"), new);
    // Nor does one that finds something to do touch the copy.
    let mut edited = hive;
    edited
        .delete_key("ControlSet001\\Services\\viostor")
        .unwrap();
    let path = dir.path().join(CONFIG).join("SYSTEM");
    fs::write(path, edited.to_bytes(TIME + 5)).unwrap();
    assert_eq!(convert(dir.path()).len(), 2);
    assert_eq!(file(dir.path(), "SYSTEM.pre-v2v"), old);
}

/// SYSTEM as a crash left it, four transactions in its logs.
fn crashed(dir: &Path) -> Vec<Vec<u8>> {
    let mut hive = Hive::open(system().to_bytes(TIME)).unwrap();
    let mut versions = vec![hive.to_bytes(TIME)];
    for number in 0..4 {
        let data = Value::binary(vec![number; 5000 * usize::from(number + 1)]);
        hive.set("ControlSet002\\Last", &format!("value{number}"), &data)
            .unwrap();
        versions.push(hive.to_bytes(TIME));
    }
    let slices: Vec<&[u8]> = versions.iter().map(Vec::as_slice).collect();
    let made = testing::incremental(&slices).torn(slices[4]);
    let config = dir.join(CONFIG);
    fs::write(config.join("SYSTEM"), made.primary).unwrap();
    fs::write(config.join("System.log1"), made.logs.log1).unwrap();
    fs::write(config.join("SYSTEM.LOG2"), made.logs.log2).unwrap();
    versions
}

#[test]
fn a_dirty_hive_is_replayed_before_it_is_edited() {
    let dir = machine();
    crashed(dir.path());
    let before = ["SYSTEM", "System.log1", "SYSTEM.LOG2"].map(|name| file(dir.path(), name));
    let changes = convert(dir.path());
    assert!(changes.last().unwrap().why.contains("4 log entries"));
    let kept = [
        "SYSTEM.pre-v2v",
        "SYSTEM.pre-v2v.LOG1",
        "SYSTEM.pre-v2v.LOG2",
    ];
    assert_eq!(kept.map(|name| file(dir.path(), name)), before);
    assert_eq!(file(dir.path(), "System.log1"), before[1], "logs stay");
    let hive = Hive::open(file(dir.path(), "SYSTEM")).unwrap();
    for number in 0..4u8 {
        let value = hive
            .value("ControlSet002\\Last", &format!("value{number}"))
            .unwrap();
        assert_eq!(value.unwrap().data.len(), 5000 * usize::from(number + 1));
    }
    assert!(hive.has("ControlSet002\\Services\\viostor").unwrap());
    assert!(convert(dir.path()).is_empty());
}

#[test]
fn old_logs_do_not_follow_on_the_new_hive() {
    let dir = machine();
    let versions = crashed(dir.path());
    convert(dir.path());
    // Windows begins to write, and crashes before a log entry of its own is there.
    let new = file(dir.path(), "SYSTEM");
    let again = testing::incremental(&[&new]).primary;
    fs::write(dir.path().join(CONFIG).join("SYSTEM"), again).unwrap();
    let error = refusal(dir.path());
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.chain().contains("expected log entry"),
        "{}",
        error.chain()
    );

    // The same with a log of the old format, which goes by the time of writing.
    let dir = machine();
    let config = dir.path().join(CONFIG);
    let made = testing::dirt(&versions[0], &versions[3]);
    fs::write(config.join("SYSTEM"), made.primary).unwrap();
    fs::write(config.join("SYSTEM.LOG1"), made.logs.log1).unwrap();
    convert(dir.path());
    let new = file(dir.path(), "SYSTEM");
    let hive = Hive::open(new.clone()).unwrap();
    assert!(hive.has("ControlSet002\\Last").unwrap());
    fs::write(config.join("SYSTEM"), testing::incremental(&[&new]).primary).unwrap();
    assert!(refusal(dir.path()).chain().contains("another transaction"));
}

#[test]
fn a_dirty_hive_that_needs_no_change_is_left_to_windows() {
    let dir = machine();
    crashed(dir.path());
    let before = file(dir.path(), "SYSTEM");
    let root = Root::open(dir.path()).unwrap();
    let registry = Registry::open(&root, "/Windows").unwrap();
    let mut recorder = Recorder::new(&root);
    registry.save(&mut recorder).unwrap();
    assert!(recorder.finish().0.is_empty());
    assert_eq!(file(dir.path(), "SYSTEM"), before);
}

#[test]
fn what_cannot_be_read_is_refused_in_one_line() {
    let dir = machine();
    let path = dir.path().join(CONFIG).join("SYSTEM");
    let good = fs::read(&path).unwrap();

    fs::write(&path, testing::incremental(&[&good]).primary).unwrap();
    let error = refusal(dir.path());
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.chain().contains("there are no logs"),
        "{}",
        error.chain()
    );

    fs::write(&path, testing::versioned(good.clone(), 2)).unwrap();
    assert_eq!(refusal(dir.path()).kind(), ErrorKind::Unsupported);

    fs::write(&path, &good[..5000]).unwrap();
    let error = refusal(dir.path());
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("offset 0x28"), "{}", error.chain());

    fs::write(&path, b"not a hive").unwrap();
    assert_eq!(refusal(dir.path()).kind(), ErrorKind::Corrupt);
    fs::remove_file(&path).unwrap();
    assert_eq!(refusal(dir.path()).kind(), ErrorKind::NotFound);
}

#[test]
fn every_change_has_its_line() {
    let dir = machine();
    let root = Root::open(dir.path()).unwrap();
    let mut registry = Registry::open(&root, "/Windows").unwrap();
    let mut recorder = Recorder::new(&root);
    let (key, system) = ("ControlSet001\\Services\\new", Which::System);
    let text = Value::expand("%SystemRoot%");
    let mut set = |name: &str, value: &Value| {
        registry
            .set(&mut recorder, system, key, name, value, "why")
            .unwrap()
    };
    assert!(set("ImagePath", &text) && set("", &Value::text("x")));
    assert!(set("Start", &Value::dword(3)) && set("start", &Value::dword(0)));
    assert!(!set("START", &Value::dword(0)));
    let none = Value {
        kind: Kind::NONE,
        data: vec![],
    };
    assert!(set("Nothing", &none));
    let mut create = |path| registry.create_key(&mut recorder, Which::Software, path, "why");
    assert!(create("A\\B").unwrap() && !create("a\\b").unwrap());
    let delete = registry.delete_value(&mut recorder, system, key, "ImagePath", "why");
    assert!(delete.unwrap());
    assert!(
        registry
            .delete_key(&mut recorder, system, key, "why")
            .unwrap()
    );
    let lines: Vec<String> = recorder
        .finish()
        .0
        .iter()
        .map(|change| {
            let show = |side: &Option<String>| side.clone().unwrap_or("-".to_owned());
            let (before, after) = (show(&change.before), show(&change.after));
            let path = change.path.trim_start_matches("HKLM\\");
            format!("{path}: {before} > {after}")
        })
        .collect();
    let new = "SYSTEM\\ControlSet001\\Services\\new";
    assert_eq!(
        lines,
        [
            format!("{new}\\ImagePath: - > expand:\"%SystemRoot%\""),
            format!("{new}\\@: - > \"x\""),
            format!("{new}\\Start: - > dword:00000003"),
            format!("{new}\\start: dword:00000003 > dword:00000000"),
            format!("{new}\\Nothing: - > hex(0):"),
            "SOFTWARE\\A\\B: - > ".to_owned(),
            format!("{new}\\ImagePath: expand:\"%SystemRoot%\" > -"),
            format!("{new}:  > -"),
        ]
    );
}

/// An NTFS of these MiB, mounted.
struct Ntfs {
    dir: tempfile::TempDir,
}

impl Ntfs {
    fn new(mib: u64) -> Option<Self> {
        if !tools(&["mkntfs", "ntfs-3g", "fusermount"]) {
            return None;
        }
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("SKIP: needs root and /dev/fuse");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(mib << 20)
            .unwrap();
        run(Command::new("mkntfs").args(["-q", "-F"]).arg(&image));
        let ntfs = Self { dir };
        fs::create_dir(ntfs.root()).unwrap();
        run(Command::new("ntfs-3g").arg(&image).arg(ntfs.root()));
        Some(ntfs)
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Ntfs {
    fn drop(&mut self) {
        let status = Command::new("fusermount")
            .arg("-u")
            .arg(self.root())
            .status();
        drop(status);
    }
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 65536];
    let len = rustix::fs::getxattr(path, name, &mut value).unwrap();
    value.truncate(len);
    value
}

#[test]
fn a_hive_keeps_its_attributes_on_ntfs() {
    let Some(ntfs) = Ntfs::new(64) else { return };
    let root = ntfs.root();
    fill(&root);
    let path = root.join(CONFIG).join("SYSTEM");
    // Hidden, system, archive; owner and rights that no new file gets by itself: SYSTEM, full access for SYSTEM alone.
    let hidden = 0x26u32.to_be_bytes();
    let sid = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    let acl = [2, 0, 28, 0, 1, 0, 0, 0, 0, 0, 20, 0, 0xff, 1, 0x1f, 0];
    let head = [
        1, 0, 4, 0x80, 48, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
    ];
    let descriptor = [&head[..], &acl, &sid, &sid, &sid].concat();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "system.ntfs_acl", &descriptor, flags).unwrap();
    rustix::fs::setxattr(&path, "system.ntfs_attrib_be", &hidden, flags).unwrap();
    let all = [
        "system.ntfs_acl",
        "system.ntfs_attrib_be",
        "system.ntfs_crtime_be",
    ];
    let before = all.map(|name| attribute(&path, name));

    assert_eq!(convert(&root).len(), 4);
    assert_eq!(all.map(|name| attribute(&path, name)), before);
    let kept = root.join(CONFIG).join("SYSTEM.pre-v2v");
    assert_eq!(all.map(|name| attribute(&kept, name)), before);
}

#[test]
fn a_full_disk_is_refused_before_the_first_change() {
    let Some(ntfs) = Ntfs::new(8) else { return };
    let root = ntfs.root();
    fill(&root);
    let guest = Root::open(&root).unwrap();
    let registry = Registry::open(&guest, "/Windows").unwrap();
    let error = registry.check_space(&guest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.chain().contains("MiB free"), "{}", error.chain());
}
