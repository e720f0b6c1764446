//! What an image says of itself, in the words of `qemu-img info`.

use crate::{Fact, FileRange, ImageInfo};

use super::bitmaps::{self, Bitmap};
use super::header::{CORRUPT, Compression, DIRTY, Header, LAZY_REFCOUNTS};
use super::snapshots;

/// The facts. A snapshot table or a bitmap directory that cannot be read is left out; a check tells of it.
pub(super) fn of(range: &FileRange, header: &Header, data_file: Option<&str>) -> ImageInfo {
    let table = snapshots::read(range, header).unwrap_or_else(|error| {
        tracing::warn!("{}", error.in_file(range.label()));
        snapshots::Table::default()
    });
    ImageInfo {
        variant: String::new(),
        cluster_size: Some(header.geometry.cluster_size()),
        parent_name: header
            .backing
            .as_ref()
            .map(|backing| backing.name.to_string_lossy().into_owned()),
        parent_format: header
            .backing
            .as_ref()
            .and_then(|backing| backing.format.clone()),
        files: data_file.into_iter().map(str::to_owned).collect(),
        snapshots: table.entries.into_iter().map(|entry| entry.said).collect(),
        facts: facts(range, header),
    }
}

fn facts(range: &FileRange, header: &Header) -> Vec<(&'static str, Fact)> {
    let text = |word: &str| Fact::Text(word.to_owned());
    let compression = match header.compression {
        Compression::Zlib => "zlib",
        Compression::Zstd => "zstd",
    };
    let refcount_bits = Fact::Number(1 << header.refcount_order);
    if header.version == 2 {
        return vec![
            ("compat", text("0.10")),
            ("compression type", text(compression)),
            ("refcount bits", refcount_bits),
        ];
    }
    let mut facts = vec![
        ("compat", text("1.1")),
        ("compression type", text(compression)),
        (
            "lazy refcounts",
            Fact::Flag(header.compatible & LAZY_REFCOUNTS != 0),
        ),
        ("refcount bits", refcount_bits),
        ("corrupt", Fact::Flag(header.incompatible & CORRUPT != 0)),
        ("extended l2", Fact::Flag(header.geometry.extended_l2)),
    ];
    if header.incompatible & DIRTY != 0 {
        facts.push(("dirty", Fact::Flag(true)));
    }
    if let Some(data_file) = &header.data_file {
        facts.push(("data file", text(&data_file.name.to_string_lossy())));
        facts.push(("data file raw", Fact::Flag(data_file.raw)));
    }
    if let Some(at) = &header.bitmaps {
        match bitmaps::read(range, at) {
            Ok(all) => facts.push(("bitmaps", Fact::List(all.iter().map(bitmap).collect()))),
            Err(error) => tracing::warn!("{}", error.in_file(range.label())),
        }
    }
    facts
}

fn bitmap(bitmap: &Bitmap) -> Fact {
    let flags = [(bitmap.in_use, "in-use"), (bitmap.auto, "auto")];
    let flags = flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, word)| Fact::Text(word.to_owned()));
    let granularity = 1u64.checked_shl(bitmap.granularity_bits).unwrap_or(0);
    Fact::Group(vec![
        ("flags", Fact::List(flags.collect())),
        ("name", Fact::Text(bitmap.name.clone())),
        ("granularity", Fact::Number(granularity)),
    ])
}
