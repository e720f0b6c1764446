//! Elements and attributes of an OVF descriptor by namespace and local name; prefixes mean nothing.

use roxmltree::Node;

pub(crate) use crate::xmldoc::parse;

/// Namespaces of the envelope, without a trailing slash: DSP0243 1.x (oVirt writes it with a slash), DSP0243 2.x, and
/// VMware's draft 0.9.
const OVF: [&str; 3] = [
    "http://schemas.dmtf.org/ovf/envelope/1",
    "http://schemas.dmtf.org/ovf/envelope/2",
    "http://www.vmware.com/schema/ovf/1/envelope",
];
/// VMware's extensions.
const VMW: &str = "http://www.vmware.com/schema/ovf";
/// VirtualBox's extensions.
const VBOX: &str = "http://www.virtualbox.org/ovf/machine";
/// Front of the CIM namespaces: rasd, vssd, and sasd and epasd of OVF 2, with and without `.xsd` at their end.
const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim";
/// XML Schema instance, for `xsi:type` of OVF 0.9.
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// XML Encryption Syntax and Processing.
const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";

/// True for an element of the envelope's namespace; elements without one count, as oVirt writes them.
pub(crate) fn is_ovf(node: Node<'_, '_>) -> bool {
    let known = |uri: &str| OVF.contains(&uri.trim_end_matches('/'));
    node.is_element() && node.tag_name().namespace().is_none_or(known)
}

/// True for the root of a descriptor: here the namespace must be stated.
pub(crate) fn is_envelope(node: Node<'_, '_>) -> bool {
    is_ovf(node) && node.tag_name().name() == "Envelope" && node.tag_name().namespace().is_some()
}

/// Children of the envelope's namespace with this name.
pub(crate) fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children()
        .filter(move |child| is_ovf(*child) && child.tag_name().name() == name)
}

/// The first of [`children`].
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &'a str) -> Option<Node<'a, 'i>> {
    children(node, name).next()
}

/// True for `<NAME>` and for `<OLD xsi:type="ovf:NAME_Type">`, which is how OVF 0.9 spells it.
pub(crate) fn is_kind(node: Node<'_, '_>, old: &str, name: &str) -> bool {
    if !is_ovf(node) {
        return false;
    }
    let tag = node.tag_name().name();
    let xsi_type = || {
        node.attribute((XSI, "type"))
            .and_then(|value| value.rsplit(':').next())
    };
    tag == name
        || (tag == old && xsi_type().and_then(|value| value.strip_suffix("_Type")) == Some(name))
}

/// Sections of this kind.
pub(crate) fn sections<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children()
        .filter(move |child| is_kind(*child, "Section", name))
}

/// An attribute of the envelope's namespace, or without one.
pub(crate) fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let known = |uri: &str| OVF.contains(&uri.trim_end_matches('/'));
    let mut found = node
        .attributes()
        .filter(|attribute| attribute.name() == name);
    found
        .find(|attribute| attribute.namespace().is_none_or(known))
        .map(|attribute| attribute.value().trim())
}

/// True for an element of XML Encryption.
pub(crate) fn is_encryption(node: Node<'_, '_>) -> bool {
    node.is_element() && node.tag_name().namespace() == Some(XENC)
}

/// True for an element of XenServer's namespaces, `http://schemas.citrix.com/ovf/envelope/1` and
/// `http://www.citrix.com/xenclient/ovf/1`.
pub(crate) fn is_xen(node: Node<'_, '_>) -> bool {
    let uri = node.tag_name().namespace().unwrap_or_default();
    node.is_element() && uri.contains("citrix.com/")
}

/// Text of a child called `Value` in any namespace.
pub(crate) fn value_text(node: Node<'_, '_>) -> Option<String> {
    node.children()
        .find(|child| child.is_element() && child.tag_name().name() == "Value")
        .map(text)
}

/// An attribute of VMware's namespace.
pub(crate) fn vmw_attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attribute((VMW, name)).map(str::trim)
}

/// True for this element of VMware's namespace.
pub(crate) fn is_vmw(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace() == Some(VMW) && node.tag_name().name() == name
}

/// True for this element of VirtualBox's namespace.
pub(crate) fn is_vbox(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace() == Some(VBOX) && node.tag_name().name() == name
}

/// Text of the first CIM child of this name (any case: 0.9 writes `InstanceId`, 1.x `InstanceID`); empty is `None`.
pub(crate) fn cim_text(node: Node<'_, '_>, name: &str) -> Option<String> {
    let is_it = |child: &Node<'_, '_>| {
        let tag = child.tag_name();
        child.is_element()
            && tag.namespace().is_some_and(|uri| uri.starts_with(CIM))
            && tag.name().eq_ignore_ascii_case(name)
    };
    node.children()
        .find(is_it)
        .map(text)
        .filter(|text| !text.is_empty())
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
