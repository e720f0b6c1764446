use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::support::{images, ok, ours, qemu_img, refused};

#[test]
fn exit_codes_tell_clean_damaged_and_unreadable_apart() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    for file in [
        "disk.raw",
        "disk.qcow2",
        "top.qcow2",
        "stream.vmdk",
        "sparse.vmdk",
    ] {
        for data in [&[][..], &["--data"]] {
            let said = ok(dir, &[&["check"], data, &[file]].concat());
            assert!(
                said.stdout
                    .starts_with("No errors were found on the image.\n")
            );
            let json = ok(dir, &[&["check", "--output=json"], data, &[file]].concat()).json();
            assert_eq!(json["check-errors"], 0);
            assert!(json.get("corruptions").is_none() && json.get("leaks").is_none());
        }
    }
    refused(dir, &["check", "absent"], 1, "absent");
    refused(dir, &["check", "-r", "leaks", "disk.qcow2"], 63, "-r leaks");
    // A byte in the middle of a compressed grain.
    let file = File::options()
        .write(true)
        .read(true)
        .open(dir.join("stream.vmdk"))
        .unwrap();
    let mut head = [0; 4096];
    let len = file.metadata().unwrap().len();
    let mut at = 65536;
    // The first grain of the run at 3 MiB is a long run of one byte: its stream follows its marker.
    while at < len {
        let n = file.read_at(&mut head, at).unwrap();
        if n > 16 && head[12] == 0x78 && u64::from_le_bytes(head[..8].try_into().unwrap()) < 1 << 14
        {
            break;
        }
        at += 512;
    }
    file.write_all_at(&[0xff; 8], at + 20).unwrap();
    let said = ours(dir, &["check", "--data", "stream.vmdk"]);
    assert_eq!(said.status, 2, "{} {}", said.stdout, said.stderr);
    assert!(
        said.stdout.contains("error: stream.vmdk"),
        "{}",
        said.stdout
    );
    let said = ours(dir, &["check", "--data", "--output=json", "stream.vmdk"]);
    assert_eq!(
        (said.status, said.json()["corruptions"].as_u64()),
        (2, Some(1))
    );
}

#[test]
fn leaks_are_counted_as_qemu_img_counts_them() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    let clean = ok(dir, &["check", "--output=json", "disk.qcow2"]).json();
    assert_eq!(clean["metadata-checked"], true);
    // An L2 entry that is forgotten leaks its cluster.
    let file = File::options()
        .write(true)
        .read(true)
        .open(dir.join("disk.qcow2"))
        .unwrap();
    let word = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let l2 = word(word(40)) & 0x00ff_ffff_ffff_fe00;
    assert!(word(l2) != 0);
    file.write_all_at(&[0; 8], l2).unwrap();
    let theirs = qemu_img(dir, &["check", "--output=json", "disk.qcow2"]);
    let ours = ours(dir, &["check", "--output=json", "disk.qcow2"]);
    assert_eq!((ours.status, theirs.status), (3, 3));
    assert_eq!(ours.json()["leaks"], theirs.json()["leaks"]);
    assert_eq!(
        ours.json()["total-clusters"],
        theirs.json()["total-clusters"]
    );
}
