//! Damage of what only streams have: markers, compressed grains, the footer, the end.

use image::{BlockSource, ErrorKind};

use crate::builder::{GRAIN_LEN, SECTOR, deflate, grain_content, stream, stream_of};
use crate::damage::{GRAINS, SECTORS, assert_intact, assert_refused};
use crate::support::open_bytes;

#[test]
fn a_grain_with_another_marker_is_refused() {
    let image = stream(SECTORS, GRAINS);
    let at = image.grains[&7];
    let lba = image.clone().put_u64(at, 8 * 128).clone();
    assert_refused(
        &lba,
        ErrorKind::Corrupt,
        at,
        &["marker of grain 7, sector 896", "found sector 1024"],
    );
    let long = image.clone().put_u32(at + 8, 1 << 30).clone();
    assert_refused(
        &long,
        ErrorKind::Corrupt,
        at,
        &["at most 74752 compressed bytes", "found 1073741824"],
    );
    let none = image.clone().put_u32(at + 8, 0).clone();
    assert_refused(&none, ErrorKind::Corrupt, at, &["with 0 bytes"]);
}

#[test]
fn a_grain_that_inflates_short_long_or_not_at_all_is_refused() {
    let content = grain_content(1);
    let image = |data: Vec<u8>| {
        stream_of(
            SECTORS,
            &[
                (0, deflate(&grain_content(0))),
                (1, data),
                (2, deflate(&content)),
            ],
        )
    };
    let short = image(deflate(&content[..GRAIN_LEN - 512]));
    assert_refused(
        &short,
        ErrorKind::Corrupt,
        short.grains[&1],
        &["grain 1 to inflate to 65536 bytes, found 65024"],
    );
    let long = image(deflate(&[content.as_slice(), &[0]].concat()));
    assert_refused(
        &long,
        ErrorKind::Corrupt,
        long.grains[&1],
        &["grain 1 to inflate to 65536 bytes, found more"],
    );
    let mut bad = image(deflate(&content));
    let at = bad.grains[&1];
    bad.bytes[at + 12 + 40] ^= 0x10;
    assert_refused(
        &bad,
        ErrorKind::Corrupt,
        at,
        &["deflate data of grain 1, found damage"],
    );
    let bomb = image(deflate(&vec![0; 64 << 20]));
    assert_refused(&bomb, ErrorKind::Corrupt, bomb.grains[&1], &["found more"]);
}

#[test]
fn a_damaged_grain_is_refused_in_part_as_in_whole() {
    let mut image = stream(SECTORS, GRAINS);
    let at = image.grains[&1];
    image.bytes[at + 12 + 40] ^= 0x10;
    let reader = open_bytes(&image.bytes).unwrap();
    let mut buf = [0; 4096];
    let error = reader
        .read_at(&mut buf, GRAIN_LEN as u64 + 8192)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ErrorKind::Corrupt, Some(at as u64))
    );
    reader.read_at(&mut buf, 2 * GRAIN_LEN as u64).unwrap();
    assert_eq!(buf, grain_content(2)[..4096]);
}

#[test]
fn a_stored_grain_larger_than_zlib_makes_is_read() {
    // Stored blocks of 100 bytes: 5 bytes of frame each, which is more than the likely length of a grain.
    let content = grain_content(1);
    let mut data = vec![0x78, 0x01];
    let count = content.len().div_ceil(100);
    for (number, block) in content.chunks(100).enumerate() {
        data.push(u8::from(number + 1 == count));
        let len = block.len() as u16;
        data.extend(len.to_le_bytes());
        data.extend((!len).to_le_bytes());
        data.extend(block);
    }
    data.extend(libdeflater::adler32(&content).to_be_bytes());
    assert_intact(&stream_of(
        SECTORS,
        &[(0, deflate(&grain_content(0))), (1, data)],
    ));
}

#[test]
fn grains_in_any_order_are_read() {
    let order = [700, 512, 3, 511, 2, 0, 300, 1];
    assert_intact(&stream(SECTORS, &order));
    let mut walked = stream(SECTORS, &order);
    walked.put(walked.footer_at, &[0; SECTOR]);
    assert_intact(&walked);
}

#[test]
fn a_damaged_footer_or_directory_is_replaced_by_a_walk() {
    let image = stream(SECTORS, GRAINS);
    assert_intact(image.clone().put(image.footer_at, &[0x55; 4]));
    assert_intact(image.clone().put(image.footer_at - SECTOR, &[0x55; 8]));
    assert_intact(image.clone().put_u64(image.footer_at + 12, SECTORS + 1));
    assert_intact(image.clone().put_u64(image.footer_at + 56, u64::MAX));
    assert_intact(image.clone().put_u64(image.footer_at + 56, 1 << 40));
    assert_intact(image.clone().put_u32(image.directory_at, 1 << 31));
    assert_intact(
        image
            .clone()
            .put_u32(image.directory_at + 4, (image.tables[&0] / SECTOR) as u32),
    );
}

#[test]
fn padding_behind_the_stream_is_tolerated() {
    let mut image = stream(SECTORS, GRAINS);
    image.bytes.extend(vec![0; 10_000]);
    assert_intact(&image);
    image.put(image.footer_at, &[0; 4]);
    assert_intact(&image);
    image.bytes.push(1);
    let end = image.footer_at + SECTOR;
    assert_refused(
        &image,
        ErrorKind::Corrupt,
        end,
        &["end of the file behind the end-of-stream marker"],
    );
}

#[test]
fn a_cut_stream_is_truncation() {
    let whole = stream(SECTORS, GRAINS);
    let cut = |len: usize| {
        let mut image = whole.clone();
        image.bytes.truncate(len);
        image
    };
    let again = "copy, download or export it again";
    assert_refused(
        &cut(whole.grains[&7] + 50),
        ErrorKind::Truncated,
        whole.grains[&7],
        &["after 3 of", again],
    );
    assert_refused(
        &cut(whole.grains[&300]),
        ErrorKind::Truncated,
        whole.grains[&300],
        &["expected a marker", again],
    );
    let table = whole.tables[&0] - SECTOR;
    assert_refused(
        &cut(whole.tables[&0] + 100),
        ErrorKind::Truncated,
        table,
        &["4 sectors of metadata", again],
    );
    assert_refused(
        &cut(whole.footer_at),
        ErrorKind::Truncated,
        whole.footer_at - SECTOR,
        &["1 sectors of metadata"],
    );
    let first = whole.grains[&0];
    assert_refused(
        &cut(first),
        ErrorKind::Truncated,
        first,
        &["after 0 of", again],
    );
}

#[test]
fn a_walk_meets_damage() {
    let mut image = stream(SECTORS, GRAINS);
    image.put(image.footer_at, &[0; SECTOR]);
    let at = image.grains[&7];
    let broken = |offset: usize, value: u32| image.clone().put_u32(at + offset, value).clone();
    assert_refused(
        &broken(0, 5),
        ErrorKind::Corrupt,
        at,
        &["first sector of a grain", "found sector 5"],
    );
    assert_refused(
        &broken(4, 5),
        ErrorKind::Corrupt,
        at,
        &["first sector of a grain", "21474837376"],
    );
    assert_refused(
        &broken(8, 1 << 28),
        ErrorKind::Corrupt,
        at,
        &["compressed grain of at most", "268435456"],
    );
    assert_refused(
        &broken(0, 2 * 128),
        ErrorKind::Corrupt,
        at,
        &["grain 2 is in the stream twice"],
    );
    let table = image.tables[&0] - SECTOR;
    let kind = image.clone().put_u32(table + 12, 0x77).clone();
    assert_refused(
        &kind,
        ErrorKind::Corrupt,
        table,
        &["marker of type 0 to 3", "type 0x77"],
    );
    let long = image.clone().put_u64(table, u64::MAX).clone();
    assert_refused(&long, ErrorKind::Truncated, table, &["sectors of metadata"]);
    let early = image.clone().put(table, &[0; SECTOR]).clone();
    assert_refused(
        &early,
        ErrorKind::Corrupt,
        table,
        &["behind the end-of-stream marker"],
    );
}

#[test]
fn a_stream_with_a_damaged_grain_table_is_refused_at_its_place() {
    let image = stream(SECTORS, GRAINS);
    let entry = image.entry_at(7);
    let broken = image.clone().put_u32(entry, 1 << 31).clone();
    assert_refused(&broken, ErrorKind::Truncated, entry, &["grain 7"]);
    let twice = image
        .clone()
        .put_u32(entry, (image.grains[&2] / SECTOR) as u32)
        .clone();
    assert_refused(&twice, ErrorKind::Corrupt, entry, &["lie on each other"]);
}
