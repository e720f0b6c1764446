//! Each way in which a file can be wrong ends in an error that says what was expected, what was found, and where;
//! what can be read all the same is.

use image::formats::{OpenOptions, vmdk::Reader};
use image::{BlockSource, ErrorKind, FileRange};

use crate::builder::{GRAIN_LEN, Image, SECTOR, deflate, grain_content, hosted, stream, stream_of};
use crate::support::open_bytes;

/// 100 MiB and a bit: two tables, the last grain not full.
pub(crate) const SECTORS: u64 = 200 * 1024 + 10;
pub(crate) const GRAINS: &[u32] = &[0, 1, 2, 7, 300, 511, 512, 700];

pub(crate) fn read_all(reader: &Reader) -> image::Result<()> {
    let mut buf = vec![0; 1 << 20];
    let size = reader.virtual_size();
    for at in (0..size).step_by(buf.len()) {
        let len = usize::try_from((size - at).min(buf.len() as u64)).unwrap();
        reader.read_at(&mut buf[..len], at)?;
    }
    Ok(())
}

/// Opening or reading fails like this.
#[track_caller]
pub(crate) fn assert_refused(image: &Image, kind: ErrorKind, at: usize, texts: &[&str]) {
    let error = open_bytes(&image.bytes)
        .and_then(|reader| read_all(&reader))
        .unwrap_err();
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert_eq!(error.offset(), Some(at as u64), "{message}");
    assert!(message.starts_with("test.vmdk: at 0x"), "{message}");
    for text in texts {
        assert!(message.contains(text), "{message} lacks {text}");
    }
}

/// The image reads as if nothing had happened to it.
#[track_caller]
pub(crate) fn assert_intact(image: &Image) {
    let reader = open_bytes(&image.bytes).unwrap();
    let mut buf = vec![0; GRAIN_LEN];
    for grain in 0..SECTORS.div_ceil(128) as u32 {
        let offset = u64::from(grain) * GRAIN_LEN as u64;
        let len = GRAIN_LEN.min((reader.virtual_size() - offset) as usize);
        reader.read_at(&mut buf[..len], offset).unwrap();
        let stored = image.grains.contains_key(&grain);
        let expected = if stored {
            grain_content(grain)
        } else {
            vec![0; GRAIN_LEN]
        };
        assert!(buf[..len] == expected[..len], "grain {grain}");
        assert_eq!(
            !reader.extent_at(offset, 512).unwrap().kind.reads_zero(),
            stored,
            "grain {grain}"
        );
    }
}

#[test]
fn undamaged_images_read_as_made() {
    assert_intact(&hosted(SECTORS, GRAINS));
    assert_intact(&stream(SECTORS, GRAINS));
}

#[test]
fn the_last_grain_may_be_stored_full_or_cut() {
    let last = (SECTORS / 128) as u32;
    let len = (SECTORS % 128) as usize * SECTOR;
    assert_intact(&stream(SECTORS, &[0, last]));
    assert_intact(&stream_of(
        SECTORS,
        &[(last, deflate(&grain_content(last)[..len]))],
    ));
    let short = stream_of(SECTORS, &[(last, deflate(&grain_content(last)[..len - 1]))]);
    assert_refused(
        &short,
        ErrorKind::Corrupt,
        short.grains[&last],
        &["to inflate to", "found 5119"],
    );
    let mut cut = hosted(SECTORS, &[0, last]);
    cut.bytes.truncate(cut.grains[&last] + len);
    assert_intact(&cut);
}

#[test]
fn a_grain_directory_out_of_the_file_is_truncation() {
    let mut image = hosted(SECTORS, GRAINS);
    image.put_u64(56, 1 << 40);
    assert_refused(
        &image,
        ErrorKind::Truncated,
        1 << 49,
        &["grain directory of 16 bytes", "the file ends at"],
    );
    image.put_u64(56, 1 << 60);
    assert_refused(
        &image,
        ErrorKind::Corrupt,
        56,
        &["grain directory behind the header"],
    );
}

#[test]
fn a_capacity_beyond_the_directory_is_refused_without_allocating() {
    let mut image = hosted(SECTORS, GRAINS);
    image.put_u64(12, 1 << 37);
    assert_refused(
        &image,
        ErrorKind::Truncated,
        image.directory_at,
        &["grain directory of 8388608 bytes"],
    );
    image.put_u64(12, 1 << 60);
    assert_refused(&image, ErrorKind::Limit, 12, &["capacity of at most"]);
}

#[test]
fn tables_out_of_place_are_refused_at_open() {
    let image = hosted(SECTORS, GRAINS);
    let entry = image.directory_at + 4;
    let broken = |sector: usize| image.clone().put_u32(entry, sector as u32).clone();
    assert_refused(
        &broken(1 << 31),
        ErrorKind::Truncated,
        entry,
        &["grain table 1 at 0x10000000000"],
    );
    assert_refused(
        &broken(image.directory_at / SECTOR),
        ErrorKind::Corrupt,
        entry,
        &["lies on the grain directory"],
    );
    let first = image.tables[&0] / SECTOR;
    assert_refused(
        &broken(first + 1),
        ErrorKind::Corrupt,
        entry,
        &["grain tables 0", "and 1", "lie on each other"],
    );
    assert_refused(
        &broken(first),
        ErrorKind::Corrupt,
        entry,
        &["lie on each other"],
    );
}

#[test]
fn grains_out_of_place_are_refused() {
    let image = hosted(SECTORS, GRAINS);
    let entry = image.entry_at(7);
    let broken = |sector: usize| image.clone().put_u32(entry, sector as u32).clone();
    assert_refused(
        &broken(1 << 31),
        ErrorKind::Truncated,
        entry,
        &["grain 7 at 0x10000000000", "incomplete"],
    );
    assert_refused(
        &broken(1),
        ErrorKind::Corrupt,
        entry,
        &["grain 7 at 0x200 lies on the extent's metadata"],
    );
    assert_refused(
        &broken(21),
        ErrorKind::Corrupt,
        entry,
        &["lies on the extent's metadata"],
    );
    let third = image.grains[&2] / SECTOR;
    assert_refused(
        &broken(third),
        ErrorKind::Corrupt,
        entry,
        &["grains 2 at", "and 7 at", "lie on each other"],
    );
    let second = image.grains[&1] / SECTOR;
    assert_refused(
        &broken(second + 5),
        ErrorKind::Corrupt,
        entry,
        &["grains 1 at", "and 7 at", "lie on each other"],
    );
}

#[test]
fn a_cut_hosted_image_is_truncation() {
    let mut image = hosted(SECTORS, GRAINS);
    image.bytes.truncate(image.grains[&512] + 100);
    assert_refused(
        &image,
        ErrorKind::Truncated,
        image.entry_at(512),
        &["grain 512", "export it again"],
    );
    image.bytes.truncate(image.tables[&1] + 10);
    assert_refused(
        &image,
        ErrorKind::Truncated,
        image.directory_at + 4,
        &["grain table 1", "the file ends at"],
    );
    image.bytes.truncate(700);
    assert_refused(
        &image,
        ErrorKind::Truncated,
        512,
        &["reading 10240 bytes of 700"],
    );
    image.bytes.truncate(100);
    assert_refused(
        &image,
        ErrorKind::Truncated,
        0,
        &["expected a header of 512 bytes"],
    );
    image.bytes.truncate(2);
    assert_refused(&image, ErrorKind::Corrupt, 0, &["KDMV"]);
}

#[test]
fn a_zeroed_grain_entry_counts_only_with_its_flag() {
    let mut image = hosted(SECTORS, GRAINS);
    image.put_u32(image.entry_at(9), 1);
    assert_refused(&image, ErrorKind::Corrupt, image.entry_at(9), &["metadata"]);
    image.put_u32(4, 2).put_u32(8, 0b101);
    let reader = open_bytes(&image.bytes).unwrap();
    read_all(&reader).unwrap();
    assert_eq!(
        reader
            .extent_at(9 * GRAIN_LEN as u64, 1 << 20)
            .unwrap()
            .kind,
        image::ExtentKind::Zero
    );
}

#[test]
fn the_redundant_directory_serves_when_the_first_is_damaged() {
    let mut image = hosted(SECTORS, GRAINS);
    image.put_u32(8, 0b11).put_u64(48, 21).put_u64(56, 1 << 40);
    assert_intact(&image);
}

#[test]
fn text_mode_transfer_is_named() {
    let mut image = hosted(SECTORS, GRAINS);
    image.put(73, b"\n \n\n");
    assert_refused(
        &image,
        ErrorKind::Corrupt,
        73,
        &["text mode (FTP ASCII)", "[0a, 20, 0d, 0a]"],
    );
}

#[test]
fn a_damaged_descriptor_is_refused() {
    let mut image = hosted(SECTORS, GRAINS);
    image.put(SECTOR, b"# Fish");
    assert_refused(
        &image,
        ErrorKind::Corrupt,
        SECTOR,
        &["# Disk DescriptorFile", "# Fish"],
    );
}

#[test]
fn a_range_past_the_end_is_the_callers_mistake() {
    let reader = open_bytes(&hosted(SECTORS, &[0]).bytes).unwrap();
    let mut buf = [0; 512];
    for offset in [SECTORS * 512 - 511, SECTORS * 512, u64::MAX] {
        assert_eq!(
            reader.read_at(&mut buf, offset).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }
    reader.read_at(&mut buf, SECTORS * 512 - 512).unwrap();
    reader.read_at(&mut [], SECTORS * 512).unwrap();
}

#[test]
fn an_image_in_the_middle_of_a_file_is_read_in_place() {
    use std::io::Write;
    let image = stream(SECTORS, GRAINS);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(
        &[
            b"tar header".as_slice(),
            &[7; 502],
            &image.bytes,
            &[7; 5000],
        ]
        .concat(),
    )
    .unwrap();
    let range = FileRange::part(
        file.into(),
        512,
        image.bytes.len() as u64,
        "a.ova: disk.vmdk",
    )
    .unwrap();
    let source = image::formats::open_range(range, &OpenOptions::with_format(None)).unwrap();
    let mut buf = vec![0; GRAIN_LEN];
    source.read_at(&mut buf, 300 * GRAIN_LEN as u64).unwrap();
    assert!(buf == grain_content(300));
}
