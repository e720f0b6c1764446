//! The configuration of a Hyper-V machine as a tree of named nodes, whichever file it came from.
//!
//! The old `.xml` and the `.vmcx` hold the same tree under the same names, beginning with `configuration`.

use crate::error::{Error, Result, shown};

/// A value in its own type; the XML knows its values as text only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// UTF-8, or what an XML element holds.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A whole number without sign.
    Unsigned(u64),
    /// A fraction; none is read, and it is kept for the dump of a test.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Bytes; none are read.
    Bytes(Vec<u8>),
}

#[derive(Debug)]
struct Entry {
    name: String,
    value: Option<Value>,
    children: Vec<usize>,
}

/// The tree; node 0 is `configuration`.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Entry>);

/// A node of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    tree: &'a Tree,
    index: usize,
}

impl Tree {
    /// A tree of one node.
    pub(crate) fn new(root: impl Into<String>) -> Self {
        Self(vec![Entry {
            name: root.into(),
            value: None,
            children: Vec::new(),
        }])
    }

    /// Adds a node below `parent`, which is one that `add` gave or 0, and gives its number.
    pub(crate) fn add(
        &mut self,
        parent: usize,
        name: impl Into<String>,
        value: Option<Value>,
    ) -> usize {
        let index = self.0.len();
        self.0.push(Entry {
            name: name.into(),
            value,
            children: Vec::new(),
        });
        if let Some(parent) = self.0.get_mut(parent) {
            parent.children.push(index);
        }
        index
    }

    /// `configuration`.
    pub(crate) fn root(&self) -> Node<'_> {
        Node {
            tree: self,
            index: 0,
        }
    }
}

impl<'a> Node<'a> {
    fn entry(self) -> Option<&'a Entry> {
        self.tree.0.get(self.index)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'a str {
        self.entry().map_or("", |entry| entry.name.as_str())
    }

    /// Its children in the order of the file.
    pub(crate) fn children(self) -> impl Iterator<Item = Node<'a>> {
        let children = self.entry().map_or(&[][..], |entry| &entry.children);
        children.iter().map(move |&index| Node {
            tree: self.tree,
            index,
        })
    }

    /// The node at `path`, names separated by `/`. Two of one name are refused: which is meant is not known.
    pub(crate) fn at(self, path: &str) -> Result<Option<Node<'a>>> {
        let mut here = self;
        for name in path.split('/') {
            let mut named = here
                .children()
                .filter(|child| child.name().eq_ignore_ascii_case(name));
            let Some(next) = named.next() else {
                return Ok(None);
            };
            if named.next().is_some() {
                return Err(Error::corrupt(format!(
                    "expected one `{}` in `{}`, found several",
                    shown(name),
                    shown(here.name())
                )));
            }
            here = next;
        }
        Ok(Some(here))
    }

    /// Its value.
    pub(crate) fn value(self) -> Option<&'a Value> {
        self.entry().and_then(|entry| entry.value.as_ref())
    }

    /// The text at `path`; empty is `None`.
    pub(crate) fn text(self, path: &str) -> Result<Option<&'a str>> {
        let Some(node) = self.at(path)? else {
            return Ok(None);
        };
        match node.value() {
            Some(Value::Text(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            None => Ok(None),
            Some(other) => Err(node.unexpected("text", other)),
        }
    }

    /// The whole number at `path`.
    pub(crate) fn integer(self, path: &str) -> Result<Option<u64>> {
        let Some(node) = self.at(path)? else {
            return Ok(None);
        };
        let number = match node.value() {
            None => return Ok(None),
            Some(Value::Text(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::Text(text)) => text.trim().parse().ok(),
            Some(Value::Integer(number)) => u64::try_from(*number).ok(),
            Some(Value::Unsigned(number)) => Some(*number),
            Some(_) => None,
        };
        match (number, node.value()) {
            (None, Some(value)) => Err(node.unexpected("a whole number from 0", value)),
            (number, _) => Ok(number),
        }
    }

    /// The yes or no at `path`.
    pub(crate) fn boolean(self, path: &str) -> Result<Option<bool>> {
        let Some(node) = self.at(path)? else {
            return Ok(None);
        };
        match node.value() {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::Text(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::Text(text)) if text.trim().eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::Text(text)) if text.trim().eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(other) => Err(node.unexpected("true or false", other)),
        }
    }

    fn unexpected(self, expected: &str, found: &Value) -> Error {
        let found = match found {
            Value::Text(text) => format!("`{}`", shown(text)),
            Value::Integer(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        };
        Error::corrupt(format!(
            "`{}`: expected {expected}, found {found}",
            shown(self.name())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_either_type() {
        let mut tree = Tree::new("configuration");
        let a = tree.add(0, "a", None);
        tree.add(a, "size", Some(Value::Text(" 512 ".into())));
        tree.add(a, "count", Some(Value::Integer(4)));
        tree.add(a, "yes", Some(Value::Text("True".into())));
        tree.add(a, "no", Some(Value::Bool(false)));
        tree.add(a, "less", Some(Value::Integer(-1)));
        tree.add(a, "twice", None);
        tree.add(a, "Twice", None);
        let root = tree.root();
        assert_eq!(root.integer("a/size").unwrap(), Some(512));
        assert_eq!(root.integer("a/count").unwrap(), Some(4));
        assert_eq!(root.integer("a/none").unwrap(), None);
        assert_eq!(root.boolean("a/yes").unwrap(), Some(true));
        assert_eq!(root.boolean("A/no").unwrap(), Some(false));
        assert!(root.integer("a/less").is_err());
        assert!(root.boolean("a/size").is_err());
        assert!(root.text("a/count").is_err());
        assert!(root.at("a/twice").is_err());
    }
}
