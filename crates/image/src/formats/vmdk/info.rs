//! What a VMDK says of itself, in the words of `qemu-img info` where it has them.

use super::extents::{Body, Placed};
use super::reader::Reader;
use crate::{Fact, ImageInfo};

/// `parent cid` of a disk without parent.
const NO_PARENT: u32 = u32::MAX;

/// The facts.
pub(super) fn of(reader: &Reader) -> ImageInfo {
    let descriptor = reader.descriptor();
    let text = |value: Option<&str>| value.map(|value| Fact::Text(value.to_owned()));
    let hex = |cid: u32| Fact::Text(format!("{cid:08x}"));
    let sparse = reader
        .extents()
        .iter()
        .find_map(|extent| match &extent.body {
            Body::Sparse(sparse) => Some(sparse),
            _ => None,
        });
    let compressed = sparse.is_some_and(|sparse| sparse.is_compressed());
    let mut facts = vec![];
    let mut add = |name: &'static str, fact: Option<Fact>| {
        facts.extend(fact.map(|fact| (name, fact)));
    };
    if let Some(descriptor) = descriptor {
        add("create type", text(descriptor.create_type.as_deref()));
        add("cid", descriptor.cid.map(hex));
        let parent = descriptor.parent_cid.unwrap_or(NO_PARENT);
        add("parent cid", Some(hex(parent)));
        add(
            "adapter type",
            text(descriptor.ddb.get("adaptertype").map(String::as_str)),
        );
        add("hw version", text(descriptor.hw_version()));
        add("uuid", text(descriptor.uuid("uuid.image").as_deref()));
        add("encoding", text(descriptor.encoding.as_deref()));
    }
    add("compressed", Some(Fact::Flag(compressed)));
    let extents = reader.extents().iter().map(extent);
    add("extents", Some(Fact::List(extents.collect())));
    let mut files: Vec<String> = Vec::new();
    for file in reader
        .extents()
        .iter()
        .filter_map(|extent| extent.body.file())
    {
        if file.label() != reader.label() && !files.iter().any(|known| known == file.label()) {
            files.push(file.label().to_owned());
        }
    }
    let parent_name = descriptor.and_then(|descriptor| descriptor.parent());
    ImageInfo {
        variant: descriptor
            .and_then(|descriptor| descriptor.create_type.clone())
            .unwrap_or_default(),
        cluster_size: sparse.map(|sparse| sparse.grain_size()),
        parent_format: parent_name.as_ref().map(|_| "vmdk".to_owned()),
        parent_name,
        files,
        facts,
        ..ImageInfo::default()
    }
}

fn extent(placed: &Placed) -> Fact {
    let mut facts = vec![
        (
            "virtual size",
            Fact::Number(placed.place.end - placed.place.start),
        ),
        ("format", Fact::Text(placed.kind.clone())),
    ];
    if let Some(file) = placed.body.file() {
        facts.insert(0, ("filename", Fact::Text(file.label().to_owned())));
    }
    match &placed.body {
        Body::Sparse(sparse) => {
            facts.push(("cluster size", Fact::Number(sparse.grain_size())));
            facts.push(("compressed", Fact::Flag(sparse.is_compressed())));
        }
        Body::Flat { start, .. } => facts.push(("offset", Fact::Number(*start))),
        Body::Zero => {}
    }
    Fact::Group(facts)
}
