//! A small tree of elements, written by quick-xml: escaping is its work, refusing what XML cannot carry ours.

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

use crate::{Error, ErrorKind, Result};

/// One element: attributes in order, then either text or children.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: Option<String>,
    children: Vec<Element>,
}

/// An element without attributes.
pub(crate) fn element(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        text: None,
        children: Vec::new(),
    }
}

impl Element {
    /// Adds an attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Sets the text; an element with text has no children.
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Adds a child.
    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children; an `Option` adds one or none.
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The document with this element as its root.
    pub(crate) fn document(&self) -> Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer)?;
        let mut text = String::from_utf8(writer.into_inner())
            .map_err(|e| Error::new(ErrorKind::Io, "writing the domain XML").caused_by(e))?;
        text.push('\n');
        Ok(text)
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> Result<()> {
        let mut start = BytesStart::new(self.name);
        for (name, value) in &self.attributes {
            refuse_illegal(self.name, value)?;
            start.push_attribute((*name, value.as_str()));
        }
        if self.text.is_none() && self.children.is_empty() {
            return emit(writer, Event::Empty(start));
        }
        emit(writer, Event::Start(start))?;
        if let Some(text) = &self.text {
            refuse_illegal(self.name, text)?;
            emit(writer, Event::Text(BytesText::new(text)))?;
        }
        self.children
            .iter()
            .try_for_each(|child| child.write(writer))?;
        emit(writer, Event::End(BytesEnd::new(self.name)))
    }
}

fn emit(writer: &mut Writer<Vec<u8>>, event: Event<'_>) -> Result<()> {
    writer
        .write_event(event)
        .map_err(|e| Error::io("writing the domain XML", e))
}

/// XML 1.0 (fifth edition) section 2.2: most control characters cannot be written, not even escaped; those that
/// can would be changed by attribute-value normalisation (3.3.3).
fn refuse_illegal(element: &str, value: &str) -> Result<()> {
    match value
        .chars()
        .find(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        None => Ok(()),
        Some(bad) => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{value:?} for <{element}> contains the control character {:#x}",
                u32::from(bad)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_escaped_and_reads_back() {
        let hostile = "a<b>&\"'c]]>";
        let tree = element("d")
            .attr("x", hostile)
            .child(element("n").text(hostile));
        let text = tree.document().unwrap();
        let doc = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(doc.root_element().attribute("x"), Some(hostile));
        assert_eq!(
            doc.root_element()
                .children()
                .find(|n| n.is_element())
                .unwrap()
                .text(),
            Some(hostile)
        );
    }

    #[test]
    fn characters_that_xml_cannot_carry_are_refused() {
        for bad in ["a\u{0}b", "a\u{1b}b", "a\nb", "a\u{ffff}b"] {
            let error = element("source")
                .attr("network", bad)
                .document()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(element("name").text(bad).document().is_err());
        }
    }
}
