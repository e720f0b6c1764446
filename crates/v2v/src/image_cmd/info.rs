//! `v2v image info`: what an image says of itself, in qemu-img's layout and with its JSON keys.

mod human;
mod json;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use clap::Args as ClapArgs;
use image::formats::{Format, is_uri};
use image::{BlockSource, Fact, ImageInfo};

use super::open::{Location, Reach, shown};
use super::{Outcome, OutputStyle, print, print_json};

/// Show what an image says of itself
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Format of FILE instead of detecting it
    #[arg(short = 'f', long = "format", value_name = "FMT")]
    format: Option<Format>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputStyle,
    /// Show the parents too, one after the other
    #[arg(long)]
    backing_chain: bool,
    #[command(flatten)]
    reach: Reach,
    /// Image, or the URI of an NBD export
    #[arg(value_name = "FILE")]
    file: Location,
}

/// One image of a chain, as it is shown.
struct Layer {
    /// Path or URI.
    name: String,
    source: Arc<dyn BlockSource>,
    info: ImageInfo,
    /// Label of the parent, where it has one.
    parent: Option<String>,
    /// Length of the file in bytes, where it is one.
    file_len: Option<u64>,
    /// Bytes of the host that all its files take.
    actual_size: Option<u64>,
}

impl Layer {
    /// The value of a fact that is shown outside of the format's own section.
    fn flag(&self, names: &[&str]) -> bool {
        self.info
            .facts
            .iter()
            .any(|(name, fact)| names.contains(name) && *fact == Fact::Flag(true))
    }

    /// Facts of the format's own section.
    fn own_facts(&self) -> Vec<(&'static str, Fact)> {
        let mut facts = Vec::new();
        let variant = &self.info.variant;
        let is_told = |fact: &Fact| matches!(fact, Fact::Text(text) if text == variant);
        if !variant.is_empty() && !self.info.facts.iter().any(|(_, fact)| is_told(fact)) {
            facts.push(("variant", Fact::Text(variant.clone())));
        }
        facts.extend(
            self.info
                .facts
                .iter()
                .filter(|(name, _)| !OUTSIDE.contains(name))
                .cloned(),
        );
        facts
    }
}

/// Facts that have a place of their own.
const DIRTY: &[&str] = &["dirty", "dirty flag", "dirty-flag"];
const ENCRYPTED: &[&str] = &["encrypted"];
const OUTSIDE: &[&str] = &["dirty", "dirty flag", "dirty-flag", "encrypted"];

pub(super) fn run(args: &Args) -> Outcome {
    let chain = args.reach.open(&args.file, args.format, None)?;
    let layers = chain.layers();
    let parents: Vec<Option<String>> = layers
        .iter()
        .skip(1)
        .map(|(label, _)| Some(label.clone()).filter(|label| !label.is_empty()))
        .chain([None])
        .collect();
    let mut shown_layers = Vec::new();
    for ((label, source), parent) in layers.into_iter().zip(parents) {
        let name = if shown_layers.is_empty() {
            shown(&args.file)
        } else {
            label
        };
        let info = source.info();
        let (file_len, actual_size) = sizes(&name, &info);
        shown_layers.push(Layer {
            name,
            source,
            info,
            parent,
            file_len,
            actual_size,
        });
        if !args.backing_chain {
            break;
        }
    }
    match args.output {
        OutputStyle::Json => {
            let values: Vec<_> = shown_layers.iter().map(json::of).collect();
            match values.as_slice() {
                [one] if !args.backing_chain => print_json(one)?,
                _ => print_json(&values.into())?,
            }
        }
        OutputStyle::Human => {
            let texts: Vec<_> = shown_layers.iter().map(human::of).collect();
            print(&texts.join("\n"))?;
        }
    }
    Ok(0)
}

/// Length of the image's file, and bytes that it and the files beside it take.
fn sizes(name: &str, info: &ImageInfo) -> (Option<u64>, Option<u64>) {
    if is_uri(name.as_ref()) {
        return (None, None);
    }
    let Ok(meta) = Path::new(name).metadata() else {
        return (None, None);
    };
    let others = info
        .files
        .iter()
        .filter_map(|file| Path::new(file).metadata().ok());
    let blocks: u64 = others.map(|meta| meta.blocks()).sum::<u64>() + meta.blocks();
    let len = meta.is_file().then_some(meta.len());
    (len, Some(blocks.saturating_mul(512)))
}
