//! XML documents of hypervisors: bounded, and without document type declarations.

use roxmltree::{Document, Node, ParsingOptions};

use crate::error::{Error, ErrorKind, Result, shown};

/// Nodes of the largest real OVF descriptor, and of a machine with hundreds of snapshots, are some 200 000; each costs
/// about 100 bytes of memory.
const MAX_NODES: u32 = 2_000_000;

/// Parses a document. Without a DTD it can define no entities; depth is no matter, as neither the parser nor the
/// walks here recurse.
pub(crate) fn parse(text: &str) -> Result<Document<'_>> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|e| match e {
        roxmltree::Error::DtdDetected => Error::new(
            ErrorKind::Refused,
            "a document type declaration (DTD) is not allowed here",
        ),
        roxmltree::Error::NodesLimitReached => Error::new(
            ErrorKind::Limit,
            format!("expected at most {MAX_NODES} XML nodes, found more"),
        ),
        other => Error::corrupt(format!(
            "expected well-formed XML: {}",
            shown(&other.to_string())
        )),
    })
}

/// True for an element of this local name, whatever its namespace.
pub(crate) fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

/// Child elements of this local name.
pub(crate) fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| is(*child, name))
}

/// The first of [`children`].
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &'a str) -> Option<Node<'a, 'i>> {
    children(node, name).next()
}

/// All text directly inside an element, trimmed.
pub(crate) fn text(node: Node<'_, '_>) -> String {
    let parts: String = node
        .children()
        .filter(Node::is_text)
        .filter_map(|part| part.text())
        .collect();
    parts.trim().to_owned()
}
