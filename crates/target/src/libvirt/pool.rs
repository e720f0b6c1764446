//! Storage pools: only active directory pools can take a result.

use std::path::PathBuf;

use crate::libvirt::virsh::Virsh;
use crate::{Error, ErrorKind, Result};

/// An active directory pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// Its folder on the host where libvirt runs.
    pub(crate) path: PathBuf,
    /// Bytes that are free in it, as libvirt saw it last.
    pub(crate) available: Option<u64>,
}

impl Pool {
    /// Looks a pool up and refuses any that cannot take files.
    pub(crate) fn find(virsh: &Virsh, name: &str) -> Result<Self> {
        let known = virsh.names(&["pool-list", "--all", "--name"])?;
        if !known.iter().any(|pool| pool == name) {
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there is {}", known.join(", "))
            };
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("libvirt at {} has no storage pool `{name}`: {known}", virsh.label()),
            )
            .with_hint(
                "name a pool or a folder with -os, or make one: virsh pool-define-as NAME dir --target FOLDER && \
                 virsh pool-start NAME",
            ));
        }
        if !virsh
            .names(&["pool-list", "--name"])?
            .iter()
            .any(|pool| pool == name)
        {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the storage pool `{name}` is not active"),
            )
            .with_hint(format!("start it: virsh pool-start {name}")));
        }
        parse(
            name,
            &virsh.run(&["pool-dumpxml", &format!("--pool={name}")])?,
        )
    }
}

/// Reads `<pool>` (<https://libvirt.org/formatstorage.html>).
fn parse(name: &str, xml: &str) -> Result<Pool> {
    let odd = |what: &str| {
        Error::new(
            ErrorKind::Command,
            format!("the description of pool `{name}` {what}"),
        )
    };
    let doc = roxmltree::Document::parse(xml).map_err(|e| odd("is not XML").caused_by(e))?;
    let root = doc.root_element();
    let kind = root.attribute("type").unwrap_or_default();
    if kind != "dir" {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the storage pool `{name}` is of type `{kind}`, expected a directory pool (`dir`)"
            ),
        )
        .with_hint("name a directory pool or a folder with -os"));
    }
    let child = |node: roxmltree::Node<'_, '_>, tag: &str| {
        node.children()
            .find(|n| n.has_tag_name(tag))
            .map(|n| n.id())
    };
    let text = |id| {
        doc.get_node(id)
            .and_then(|n| n.text().map(str::trim).map(str::to_owned))
    };
    let path = child(root, "target")
        .and_then(|id| doc.get_node(id))
        .and_then(|node| child(node, "path"))
        .and_then(text);
    let path = path
        .filter(|path| path.starts_with('/'))
        .ok_or_else(|| odd("names no absolute target path"))?;
    let available = child(root, "available")
        .and_then(text)
        .and_then(|bytes| bytes.parse().ok());
    Ok(Pool {
        name: name.to_owned(),
        path: path.into(),
        available,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_pool_gives_its_folder_and_room() {
        let xml = "<pool type='dir'><name>x</name><available unit='bytes'>1234</available>\
                   <target><path> /srv/a&amp;b </path></target></pool>";
        let pool = parse("x", xml).unwrap();
        assert_eq!(
            (pool.path.to_str(), pool.available),
            (Some("/srv/a&b"), Some(1234))
        );
    }

    #[test]
    fn other_types_are_refused_by_name_and_nonsense_without_panic() {
        let error = parse(
            "vg",
            "<pool type='logical'><target><path>/dev/vg</path></target></pool>",
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`logical`"));
        for xml in [
            "",
            "<pool type='dir'/>",
            "<pool type='dir'><target><path>x</path></target></pool>",
            "no",
        ] {
            assert_eq!(
                parse("x", xml).unwrap_err().kind(),
                ErrorKind::Command,
                "{xml}"
            );
        }
    }
}
