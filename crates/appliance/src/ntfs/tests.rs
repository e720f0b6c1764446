//! Volumes made by mkntfs, filled through ntfs-3g, and damaged at random.

#![expect(
    clippy::cast_possible_truncation,
    reason = "tests run on 64 bits with small numbers"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::guest::windows::{Volume as Mountable, noise};

use super::*;

const MIB: u64 = 1 << 20;

fn available() -> bool {
    ["mkntfs", "ntfs-3g", "ntfsfix", "umount"]
        .into_iter()
        .all(testkit::require_tool)
        && testkit::require_root()
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A volume full of old data, formatted.
fn volume(dir: &Path, size: u64, cluster: u32) -> PathBuf {
    let path = dir.join("volume");
    fs::write(&path, vec![0xaa; size as usize]).unwrap();
    let cluster = cluster.to_string();
    run(
        "mkntfs",
        &["-F", "-q", "-Q", "-c", &cluster, path.to_str().unwrap()],
    );
    path
}

/// Mounts the volume while `work` runs.
fn mounted(volume: &Path, options: &str, work: impl FnOnce(&Path)) {
    let done = Mountable::at(volume).mounted(options, |root| {
        work(root);
        Ok(())
    });
    done.unwrap();
}

fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn open(path: &Path) -> (File, u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    (file, len)
}

/// Overwrites every free cluster, and gives how many there are.
fn spoil(path: &Path) -> u64 {
    let (file, len) = open(path);
    let volume = Volume::open(&file, len).unwrap();
    let size = volume.boot().cluster_size;
    let mut total = 0;
    volume
        .free(1, &mut |first, count| {
            file.write_all_at(&vec![0x55; (count * size) as usize], first * size)
                .unwrap();
            total += count;
            Ok(())
        })
        .unwrap();
    total
}

#[test]
fn no_used_cluster_is_ever_told_as_free() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for cluster in [512, 4096, 65536] {
        let volume = volume(dir.path(), 48 * MIB, cluster);
        mounted(&volume, "rw", |root| {
            for number in 0..300u64 {
                let folder = root.join(format!("folder {}", number % 7));
                fs::create_dir_all(&folder).unwrap();
                let content = noise(number, (number as usize * 997) % 90_000);
                fs::write(folder.join(format!("file {number}")), content).unwrap();
            }
            // Holes of every length.
            for number in (0..300u64).step_by(3) {
                let folder = root.join(format!("folder {}", number % 7));
                fs::remove_file(folder.join(format!("file {number}"))).unwrap();
            }
            fs::write(root.join("large"), noise(1000, 9_000_000)).unwrap();
        });
        let mut before = BTreeMap::new();
        mounted(&volume, "ro", |root| before = contents(root));
        assert_eq!(before.len(), 201);
        let free = spoil(&volume);
        assert!(free * u64::from(cluster) > 20 * MIB, "{free} free");
        run("ntfsfix", &["-n", volume.to_str().unwrap()]);
        let mut after = BTreeMap::new();
        mounted(&volume, "ro", |root| after = contents(root));
        assert!(before == after, "clusters of {cluster} bytes");
        fs::remove_file(&volume).unwrap();
    }
}

#[test]
fn free_clusters_agree_with_the_driver() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path(), 64 * MIB, 4096);
    let mut told = 0;
    mounted(&path, "rw", |root| {
        fs::write(root.join("x"), noise(7, 5_000_000)).unwrap();
    });
    mounted(&path, "ro", |root| {
        told = rustix::fs::statvfs(root).unwrap().f_bfree;
    });
    let (file, len) = open(&path);
    let mut found = 0;
    Volume::open(&file, len)
        .unwrap()
        .free(1, &mut |_, count| {
            found += count;
            Ok(())
        })
        .unwrap();
    assert_eq!(found, told);
}

#[test]
fn contents_of_paging_files_go_and_others_stay() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path(), 64 * MIB, 4096);
    let sleeping = [b"HIBR".to_vec(), noise(3, 4_000_000)].concat();
    mounted(&path, "rw", |root| {
        // Enough names for blocks of the index.
        for number in 0..200 {
            fs::write(root.join(format!("some long name {number}")), "x").unwrap();
        }
        fs::write(root.join("pagefile.sys"), noise(1, 6_000_000)).unwrap();
        fs::write(
            root.join("SwapFile.sys"),
            [b"PAGEDU64".to_vec(), noise(2, 9000)].concat(),
        )
        .unwrap();
        fs::write(root.join("hiberfil.sys"), &sleeping).unwrap();
        fs::write(root.join("unpaged"), noise(4, 2_000_000)).unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/pagefile.sys"), noise(5, 2_000_000)).unwrap();
    });
    let needless = |path: &Path| {
        let (file, len) = open(path);
        let volume = Volume::open(&file, len).unwrap();
        let size = volume.boot().cluster_size;
        let all = volume.needless().unwrap();
        for extent in all.iter().flat_map(|content| &content.extents) {
            let bytes = vec![0; (extent.clusters * size) as usize];
            file.write_all_at(&bytes, extent.first.unwrap() * size)
                .unwrap();
        }
        all
    };
    let found = needless(&path);
    // A crash dump waits in one file, a session sleeps in another.
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].name, "pagefile.sys");
    let clusters: u64 = found[0].extents.iter().map(|extent| extent.clusters).sum();
    assert_eq!(clusters, 6_000_000u64.div_ceil(4096) - 1);
    mounted(&path, "rw,remove_hiberfile", |root| {
        let page = fs::read(root.join("pagefile.sys")).unwrap();
        assert_eq!(page[..4096], noise(1, 6_000_000)[..4096]);
        assert!(page[4096..].iter().all(|byte| *byte == 0));
        assert_eq!(
            fs::read(root.join("sub/pagefile.sys")).unwrap(),
            noise(5, 2_000_000)
        );
        assert_eq!(fs::read(root.join("unpaged")).unwrap(), noise(4, 2_000_000));
        fs::write(
            root.join("hiberfil.sys"),
            [b"wake".to_vec(), noise(3, 4_000_000)].concat(),
        )
        .unwrap();
    });
    let names: Vec<_> = needless(&path)
        .into_iter()
        .map(|content| content.name)
        .collect();
    assert_eq!(names, ["hiberfil.sys", "pagefile.sys"]);
}

/// Writes restart pages over the journal's beginning.
fn write_journal(path: &Path, client: u16) {
    let (file, len) = open(path);
    let volume = Volume::open(&file, len).unwrap();
    let log = volume.file_offset(2).unwrap();
    for at in [0, 4096] {
        file.write_all_at(&journal::page(10 + at, client, 0), log + at)
            .unwrap();
    }
}

#[test]
fn a_journal_in_use_is_seen_and_ntfs_3g_agrees() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path(), 16 * MIB, 4096);
    let state = || {
        let (file, len) = open(&path);
        let volume = Volume::open(&file, len).unwrap();
        (volume.is_closed().unwrap(), volume.is_dirty().unwrap())
    };
    assert_eq!(state(), (true, false));
    write_journal(&path, 0xffff);
    assert_eq!(state(), (true, false));
    mounted(&path, "rw,norecover", |_| {});
    write_journal(&path, 0);
    assert_eq!(state(), (false, false));
    // It is not mounted writable; that it is mounted all the same is why this is looked at.
    mounted(&path, "rw,norecover", |root| {
        assert!(fs::write(root.join("x"), "y").is_err());
    });
    assert_eq!(state(), (false, false));
    mounted(&path, "rw,recover", |_| {});
    assert_eq!(state(), (true, false));
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path(), 8 * MIB, 4096);
    mounted(&path, "rw", |root| {
        fs::write(root.join("pagefile.sys"), noise(1, 60_000)).unwrap();
    });
    let sound = fs::read(&path).unwrap();
    let (file, len) = open(&path);
    let mft = Volume::open(&file, len).unwrap().file_offset(0).unwrap();
    let visit = |bytes: &[u8]| {
        let Ok(volume) = Volume::open(bytes, bytes.len() as u64) else {
            return false;
        };
        let total = volume.boot().clusters;
        let _ = (volume.is_dirty(), volume.is_closed(), volume.needless());
        let freed = volume.free(1, &mut |first, count| {
            assert!(first + count <= total);
            Ok(())
        });
        freed.is_ok()
    };
    assert!(visit(&sound));
    let (mut state, mut refused) = (1u64, 0);
    for _ in 0..4000 {
        let mut bytes = sound.clone();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let value = (state >> 56) as u8;
            let spread = (state >> 20) % 8192;
            // The boot sector, or one of the first records.
            let at = if state & 1 == 0 {
                spread % 128
            } else {
                mft + spread
            };
            bytes[at as usize] = value;
        }
        refused += u32::from(!visit(&bytes));
    }
    assert!(refused > 100, "{refused}");
    for cut in [0, 1, 511, 512, 4096, 100_000, 5 << 20] {
        assert!(!visit(&sound[..cut]), "{cut}");
    }
}
