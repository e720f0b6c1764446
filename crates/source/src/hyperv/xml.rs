//! The `.xml` of Hyper-V 2008 to 2012 R2: UTF-16 with a byte order mark, every leaf an element with
//! `type="string|integer|bool|bytes"` and its value as text.

use crate::error::{Error, Result, shown};
use crate::hyperv::tree::{Tree, Value};
use crate::xmldoc;

/// Reads the document as a tree. A document of another kind is `None`.
pub(crate) fn parse(text: &str) -> Result<Option<Tree>> {
    let document = xmldoc::parse(text)?;
    let root = document.root_element();
    if root.tag_name().name() != "configuration" || root.tag_name().namespace().is_some() {
        return Ok(None);
    }
    let mut tree = Tree::new("configuration");
    let mut pending = vec![(root, 0)];
    while let Some((element, index)) = pending.pop() {
        for child in element.children().filter(roxmltree::Node::is_element) {
            let leaf = child.attribute("type").is_some();
            if leaf && child.children().any(|inner| inner.is_element()) {
                return Err(Error::corrupt(format!(
                    "expected a value in `{}`, found elements",
                    shown(child.tag_name().name())
                )));
            }
            let value = leaf.then(|| Value::Text(xmldoc::text(child)));
            let added = tree.add(index, child.tag_name().name(), value);
            pending.push((child, added));
        }
    }
    Ok(Some(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_have_a_type_and_others_children() {
        let tree = parse(
            "<?xml version=\"1.0\" encoding=\"UTF-16\" standalone=\"yes\"?>\r\n<configuration><properties>\
             <name type=\"string\">web &amp; db</name><notes type=\"string\"/></properties></configuration>",
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            tree.root().text("properties/name").unwrap(),
            Some("web & db")
        );
        assert_eq!(tree.root().text("properties/notes").unwrap(), None);
        assert!(parse("<preferences/>").unwrap().is_none());
        assert!(parse("<configuration xmlns=\"x\"/>").unwrap().is_none());
        assert!(parse("<configuration><a type=\"string\"><b/></a></configuration>").is_err());
        assert!(parse("<configuration>").is_err());
        assert!(parse("<!DOCTYPE a [<!ENTITY b \"c\">]><configuration/>").is_err());
    }
}
