use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::support::{images, ok, ours, qemu_img};

#[test]
fn verdicts_and_exit_codes_are_those_of_qemu_img() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    for (name, at, byte) in [
        ("early", 100u64, 9u8),
        ("late", (8 << 20) - 1, 9),
        ("zero", 3 << 20, 0),
    ] {
        std::fs::copy(dir.join("disk.raw"), dir.join(name)).unwrap();
        let file = File::options().write(true).open(dir.join(name)).unwrap();
        file.write_all_at(&[byte], at).unwrap();
    }
    for (name, tail) in [("longer", 0u8), ("longer-data", 7)] {
        std::fs::copy(dir.join("disk.raw"), dir.join(name)).unwrap();
        let file = File::options().write(true).open(dir.join(name)).unwrap();
        file.set_len(9 << 20).unwrap();
        file.write_all_at(&[tail], (9 << 20) - 1000).unwrap();
    }
    for other in [
        "disk.raw",
        "disk.qcow2",
        "stream.vmdk",
        "sparse.vmdk",
        "early",
        "late",
        "zero",
        "longer",
        "longer-data",
        "absent",
    ] {
        for strict in [&[][..], &["-s"]] {
            for pair in [["disk.raw", other], [other, "disk.raw"]] {
                let args = [&["compare"], strict, &pair[..]].concat();
                let (theirs, ours) = (qemu_img(dir, &args), ours(dir, &args));
                assert_eq!(ours.status, theirs.status, "{args:?}: {}", ours.stderr);
                let verdict = |text: &str| text.lines().last().map(str::to_owned);
                if theirs.status < 2 && strict.is_empty() {
                    assert_eq!(verdict(&ours.stdout), verdict(&theirs.stdout), "{args:?}");
                }
            }
        }
    }
}

#[test]
fn json_names_the_byte() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    std::fs::copy(dir.join("disk.raw"), dir.join("other")).unwrap();
    let file = File::options().write(true).open(dir.join("other")).unwrap();
    file.write_all_at(&[77], (2 << 20) + 123).unwrap();
    let said = ours(dir, &["compare", "--output=json", "other", "disk.qcow2"]);
    let json = said.json();
    assert_eq!(
        (said.status, json["difference"].as_str()),
        (1, Some("content"))
    );
    assert_eq!(json["offset"].as_u64(), Some((2 << 20) + 123));
    let same = ok(dir, &["compare", "-q", "disk.raw", "disk.qcow2"]);
    assert_eq!(same.stdout, "");
}
