//! notatin (crates.io): reads hives, and replays the logs of Windows 8.1 and later.

use std::path::{Path, PathBuf};

use notatin::parser::{Parser, ParserIterator};
use notatin::parser_builder::ParserBuilder;

use crate::tree::{Tree, Values};

/// Reads a hive with these logs.
pub(crate) fn read(hive: &Path, logs: &[PathBuf]) -> Tree {
    let mut builder = ParserBuilder::from_path(PathBuf::from(hive));
    for log in logs {
        builder.with_transaction_log(log.clone());
    }
    tree(&builder.build().unwrap())
}

fn tree(parser: &Parser) -> Tree {
    let mut tree = Tree::new();
    for key in ParserIterator::new(parser).iter() {
        // Paths begin with the root's name.
        let path = key.path.trim_start_matches('\\');
        let path = path.split_once('\\').map_or("", |(_, below)| below);
        let values = key.value_iter().map(|value| {
            let data = value.detail.value_bytes().unwrap_or_default();
            (
                value.detail.value_name(),
                (value.detail.data_type_raw(), data),
            )
        });
        tree.insert(path.to_owned(), values.collect::<Values>());
    }
    tree
}

/// What notatin makes of a tree: numbers have no more bytes than their type, whatever is stored.
pub(crate) fn cut(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for (kind, data) in tree.values_mut().flat_map(Values::values_mut) {
        match *kind & 0xfff {
            4 | 5 => data.truncate(4),
            11 => data.truncate(8),
            _ => {}
        }
    }
    tree
}
