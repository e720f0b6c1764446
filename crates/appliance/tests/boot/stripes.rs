//! Volumes whose blocks lie elsewhere than their numbers say: RAID 0, 5, 6 and 10, and thin volumes of LVM. Each holds a root whose
//! /usr is on a volume of its own.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use types::Severity;

use crate::disks::{Disk, MIB, ext, run, tree, volume_group};
use crate::found::{mounts_of, root_of, uuid};
use crate::machine::{available, launch, say};
use crate::md::Superblock;

const CHUNK: u64 = 64 << 10;
/// Where an array's data begin on a member.
const DATA_OFFSET: u64 = MIB;
/// Left-symmetric, mdadm's default for RAID 5 and 6 (kernel drivers/md/raid5.h, ALGORITHM_LEFT_SYMMETRIC).
const LEFT_SYMMETRIC: u32 = 2;
/// Two near copies (md(4), "RAID10").
const NEAR_2: u32 = 0x102;

#[derive(Clone, Copy)]
struct Array {
    name: &'static str,
    level: u32,
    layout: u32,
    members: u64,
}

impl Array {
    /// Chunks of data in a stripe over all members.
    fn width(self) -> u64 {
        match self.level {
            5 => self.members - 1,
            6 => self.members - 2,
            _ => self.members,
        }
    }

    /// The members that hold chunk `number`, and in which of their own chunks.
    fn places(self, number: u64) -> Vec<(u64, u64)> {
        let n = self.members;
        match self.level {
            10 => (0..2)
                .map(|copy| ((2 * number + copy) % n, (2 * number + copy) / n))
                .collect(),
            0 => vec![(number % n, number / n)],
            _ => {
                let (stripe, place) = (number / self.width(), number % self.width());
                // Parity goes down from the last member; data begin behind it, in RAID 6 behind Q, which follows P.
                let parity = n - 1 - stripe % n;
                vec![((parity + n - self.width() + place) % n, stripe)]
            }
        }
    }

    /// Bytes of a member that are used for `len` bytes of data.
    fn member_len(self, len: u64) -> u64 {
        let copies = if self.level == 10 { 2 } else { 1 };
        (len * copies).div_ceil(self.width() * CHUNK) * CHUNK
    }

    /// The members' disks. Parity is left out: it is asked for only when a member is.
    fn disks(self, dir: &Path, content: &Path) -> Vec<Disk> {
        let data = fs::read(content).unwrap();
        let len = u64::try_from(data.len()).unwrap();
        let size = self.member_len(len);
        let disks: Vec<Disk> = (0..self.members)
            .map(|role| {
                let file = format!("{}-{role}.raw", self.name);
                Disk::blank(dir, &file, DATA_OFFSET + size)
                    .bytes(4096, &self.superblock(role, size))
            })
            .collect();
        let mut files: Vec<File> = disks
            .iter()
            .map(|disk| File::options().write(true).open(&disk.path).unwrap())
            .collect();
        for (number, chunk) in (0..).zip(data.chunks(usize::try_from(CHUNK).unwrap())) {
            for (member, place) in self.places(number) {
                let file = &mut files[usize::try_from(member).unwrap()];
                file.write_all_at(chunk, DATA_OFFSET + place * CHUNK)
                    .unwrap();
            }
        }
        disks
    }

    /// Version 1.2.
    fn superblock(self, role: u64, size: u64) -> Vec<u8> {
        let role = u16::try_from(role).unwrap();
        Superblock {
            set: u8::try_from(self.level).unwrap() + 1,
            name: self.name,
            level: self.level,
            layout: self.layout,
            chunk: u32::try_from(CHUNK / 512).unwrap(),
            size: size / 512,
            members: u16::try_from(self.members).unwrap(),
            data_at: DATA_OFFSET / 512,
            at: 8,
            role,
            device: u8::try_from(self.level * 16 + u32::from(role)).unwrap() + 1,
        }
        .to_bytes()
    }
}

/// A root without /usr, whose fstab says where that is.
fn root_of_split(dir: &Path, name: &str, digit: char, usr: &str) -> PathBuf {
    let fstab = format!(
        "UUID={} / ext4 defaults 0 1\n{usr} /usr ext4 defaults 0 2\n",
        uuid(digit)
    );
    let tree = tree(dir, name, &fstab);
    fs::remove_dir_all(tree.join("usr")).unwrap();
    fs::create_dir(tree.join("usr")).unwrap();
    ext(dir, "ext4", &tree, &uuid(digit), 24 * MIB)
}

/// A /usr for it.
fn usr(dir: &Path, digit: char) -> PathBuf {
    let tree = dir.join(format!("usr-{digit}"));
    fs::create_dir_all(tree.join("lib/modules")).unwrap();
    fs::create_dir_all(tree.join("bin")).unwrap();
    ext(dir, "ext4", &tree, &uuid(digit), 16 * MIB)
}

#[test]
fn striped_arrays_are_assembled_also_without_a_member() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let array = |name, level, layout, members| Array {
        name,
        level,
        layout,
        members,
    };
    let arrays = [
        (array("zero", 0, 0, 2), '1'),
        (array("five", 5, LEFT_SYMMETRIC, 3), '2'),
        (array("six", 6, LEFT_SYMMETRIC, 4), '3'),
        (array("ten", 10, NEAR_2, 4), '4'),
    ];
    let mut disks = Vec::new();
    for (array, digit) in arrays {
        let apart = format!("UUID={}", uuid('9'));
        disks.extend(array.disks(
            dir.path(),
            &root_of_split(dir.path(), array.name, digit, &apart),
        ));
    }
    let usr = Disk::at(&usr(dir.path(), '9'));
    // The other half of what RAID 10's second member has is on the first.
    let gone = disks.pop().unwrap();
    say(&format!("without {}", gone.path.display()));
    disks.push(usr);
    let all: Vec<&Disk> = disks.iter().collect();
    let mut machine = launch(dir.path(), &all);
    let (_, guests) = machine.appliance.inspect(all.len(), &[], &say).unwrap();
    let usr = format!(
        "/dev/sd{}",
        types::disk_letters(u32::try_from(all.len() - 1).unwrap())
    );
    for (array, _) in arrays {
        let guest = root_of(&guests, array.name);
        assert_eq!(guest.root, format!("/dev/md/{}", array.name));
        assert_eq!(
            mounts_of(guest),
            [("/", guest.root.as_str()), ("/usr", usr.as_str())]
        );
    }
    let degraded = root_of(&guests, "zero").concerns.iter().any(|concern| {
        concern.severity == Severity::Warning
            && concern
                .what
                .contains("array ten (raid10) lacks 1 of its 4 disks")
    });
    assert!(degraded, "{:#?}", root_of(&guests, "zero").concerns);
    machine.appliance.shutdown().unwrap();
}

/// `root` and `usr` in a thin pool, whose chunks stand in reverse order; LVM's own tools write both kinds of metadata.
fn thin_pool(dir: &Path, name: &str, vg: &str, root: &Path, usr: &Path) -> Disk {
    const EXTENT: u64 = 4 * MIB;
    let volumes = [root, usr].map(|path| fs::read(path).unwrap());
    let extents = volumes
        .each_ref()
        .map(|data| u64::try_from(data.len()).unwrap() / EXTENT);
    let [root_extents, usr_extents] = extents;
    let data_extents = root_extents + usr_extents + 1;
    let disk = Disk::blank(dir, name, MIB + (data_extents + 3) * EXTENT);
    let linear = |name: &str, digit: char, at: u64, count: u64| {
        format!(
            "{name} {{ id=\"{digit}{digit}{digit}{digit}{digit}{digit}-0000-0000-0000-0000-0000-000000\" status=[\"READ\",\"WRITE\"] flags=[] segment_count=1\n\
             segment1 {{ start_extent=0 extent_count={count} type=\"striped\" stripe_count=1 stripes=[\"pv0\",{at}] }} }}\n"
        )
    };
    let thin = |name: &str, digit: char, device: u64, count: u64| {
        format!(
            "{name} {{ id=\"{digit}{digit}{digit}{digit}{digit}{digit}-0000-0000-0000-0000-0000-000000\" status=[\"READ\",\"WRITE\",\"VISIBLE\"] flags=[] segment_count=1\n\
             segment1 {{ start_extent=0 extent_count={count} type=\"thin\" thin_pool=\"pool\" transaction_id=0 device_id={device} }} }}\n"
        )
    };
    let pool = format!(
        "pool {{ id=\"pppppp-0000-0000-0000-0000-0000-000000\" status=[\"READ\",\"WRITE\",\"VISIBLE\"] flags=[] segment_count=1\n\
         segment1 {{ start_extent=0 extent_count={data_extents} type=\"thin-pool\" metadata=\"pool_tmeta\" pool=\"pool_tdata\" \
         transaction_id=0 chunk_size=128 discards=\"passdown\" zero_new_blocks=1 }} }}\n"
    );
    let volumes_text = [
        pool,
        linear("pool_tmeta", 'm', 0, 1),
        linear("pool_tdata", 'd', 1, data_extents),
        thin("root", 'r', 1, root_extents),
        thin("usr", 'u', 2, usr_extents),
    ]
    .concat();
    let backup = dir.join(format!("{vg}.vg"));
    let file = backup.to_str().unwrap();
    volume_group(dir, &disk, vg, |lvm| {
        lvm(&["vgcfgbackup", "-f", file, vg]);
        let text = fs::read_to_string(&backup).unwrap();
        // The group is the last in the file.
        let (group, end) = text.split_at(text.rfind("\n}\n").unwrap());
        let edited = format!("{group}\nlogical_volumes {{\n{volumes_text}}}\n{end}");
        fs::write(&backup, edited).unwrap();
        lvm(&["vgcfgrestore", "--force", "-f", file, vg]);
    });

    let (chunks_root, chunks_usr) = (root_extents * EXTENT / CHUNK, usr_extents * EXTENT / CHUNK);
    let total = data_extents * EXTENT / CHUNK;
    let device_xml = |id: u64, first: u64, chunks: u64| {
        let maps: String = (0..chunks)
            .map(|at| {
                let place = total - 1 - first - at;
                format!(
                    "<single_mapping origin_block=\"{at}\" data_block=\"{place}\" time=\"0\"/>\n"
                )
            })
            .collect();
        format!(
            "<device dev_id=\"{id}\" mapped_blocks=\"{chunks}\" transaction=\"0\" creation_time=\"0\" snap_time=\"0\">\n{maps}</device>\n"
        )
    };
    let xml = format!(
        "<superblock uuid=\"\" time=\"0\" transaction=\"0\" version=\"2\" data_block_size=\"128\" nr_data_blocks=\"{total}\">\n{}{}</superblock>\n",
        device_xml(1, 0, chunks_root),
        device_xml(2, chunks_root, chunks_usr)
    );
    let (plan, metadata) = (dir.join("thin.xml"), Disk::blank(dir, "tmeta", EXTENT));
    fs::write(&plan, xml).unwrap();
    run(Command::new("/usr/sbin/thin_restore")
        .arg("-q")
        .arg("-i")
        .arg(&plan)
        .arg("-o")
        .arg(&metadata.path));
    let mut disk = disk.put(MIB, &metadata.path);
    let chunks = volumes
        .iter()
        .flat_map(|data| data.chunks(usize::try_from(CHUNK).unwrap()));
    for (number, chunk) in (0..).zip(chunks) {
        disk = disk.bytes(MIB + EXTENT + (total - 1 - number) * CHUNK, chunk);
    }
    disk
}

#[test]
fn thin_volumes_are_activated() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = root_of_split(dir.path(), "thin", '5', "/dev/vg_thin/usr");
    let disk = thin_pool(
        dir.path(),
        "thin.raw",
        "vg_thin",
        &root,
        &usr(dir.path(), '6'),
    );
    let mut machine = launch(dir.path(), &[&disk]);
    let (_, guests) = machine.appliance.inspect(1, &[], &say).unwrap();
    let guest = root_of(&guests, "thin");
    assert_eq!(
        mounts_of(guest),
        [("/", "/dev/vg_thin/root"), ("/usr", "/dev/vg_thin/usr")]
    );
    machine
        .appliance
        .trim("/dev/vg_thin/root", true, &[], &say)
        .unwrap();
    machine.appliance.shutdown().unwrap();
}
