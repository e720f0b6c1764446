//! The files of iso/.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::debian::cpio::Node;
use crate::debian::tree::Tree;
use crate::debian::{self, hash};

/// Raised when this code makes another base from the same recipe.
const BASE_FORMAT: u32 = 1;
/// The file's bytes, which `v2v iso customize` rewrites in place.
const CUSTOM_SIZE: usize = 16384;
/// Of a line of padding, its line end included.
const PADDING_LINE: usize = 64;
/// Kernel command line on x86: COMMAND_LINE_SIZE, the final zero included (Documentation/arch/x86/boot.rst).
const COMMAND_LINE: usize = 2048;
/// What GRUB puts before the words: `BOOT_IMAGE=(hd0,msdos2)/p2v/vmlinuz ` and the like.
const BOOT_IMAGE: usize = 64;

/// All of it, read.
#[derive(Debug)]
pub(super) struct Recipe {
    /// Package and the files wanted of it.
    pub(super) packages: Vec<(String, Vec<String>)>,
    /// Packages that make the ISO and are not in the initrd.
    pub(super) tools: Vec<String>,
    /// As [`crate::debian::tree`] takes them.
    pub(super) modules: Vec<String>,
    /// Packages with firmware.
    pub(super) firmware: Vec<String>,
    /// Files of our own in the initrd.
    pub(super) root: Tree,
    /// The menu.
    pub(super) menu: String,
    /// What finds the medium; `@ID@` stands for the name of a file on it.
    pub(super) find: String,
    /// Examples for network boot by name.
    pub(super) pxe: BTreeMap<String, String>,
    /// Head of custom.cfg.
    custom: String,
    /// Over all that the base is made of.
    pub(super) hash: String,
}

impl Recipe {
    /// Reads `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let text = |name: &str| -> Result<String> {
            String::from_utf8(read(name)?).with_context(|| format!("reading {name}"))
        };
        let lists = ["packages.txt", "tools.txt", "modules.txt", "firmware.txt"]
            .map(&read)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let [packages, tools, modules, firmware] = lists.as_slice() else {
            unreachable!("four lists were read")
        };
        let mut root = Tree::new();
        add_folder(&mut root, &dir.join("root"), "")?;
        let mut parts: Vec<&[u8]> = vec![packages, tools, modules, firmware];
        let format = BASE_FORMAT.to_le_bytes();
        parts.push(&format);
        for (path, node) in &root {
            if let Node::File { mode, data } = node {
                parts.extend([path.as_bytes(), if mode & 0o111 == 0 { b"-" } else { b"x" }]);
                parts.push(data);
            }
        }
        let hash = hash(&parts);
        let mut pxe = Tree::new();
        add_folder(&mut pxe, &dir.join("pxe"), "")?;
        Ok(Recipe {
            packages: debian::package_lines(packages),
            tools: debian::words(tools).concat(),
            modules: debian::words(modules).concat(),
            firmware: debian::words(firmware).concat(),
            menu: text("grub/grub.cfg")?,
            find: text("grub/find.cfg")?,
            custom: text("custom.cfg")?,
            pxe: pxe
                .into_keys()
                .map(|name| Ok((name.clone(), text(&format!("pxe/{name}"))?)))
                .collect::<Result<_>>()?,
            root,
            hash,
        })
    }

    /// Value of `set NAME=` in the menu.
    pub(super) fn menu_variable(&self, name: &str) -> Result<&str> {
        let start = format!("set {name}=");
        self.menu
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .map(|value| value.trim_matches('"'))
            .with_context(|| format!("iso/grub/grub.cfg does not set {name}"))
    }

    /// The words of the menu's first entry, without the customised ones.
    pub(super) fn base_words(&self) -> Result<String> {
        let base = self.menu_variable("p2v_base")?;
        Ok(format!("{base} {}", self.menu_variable("p2v_screen")?))
    }

    /// custom.cfg as it is before it is customised: its head, and padding up to its size.
    pub(super) fn custom(&self) -> Result<String> {
        let longest = self
            .menu
            .lines()
            .filter_map(|line| line.trim().split_once("/p2v/vmlinuz "))
            .map(|(_, words)| self.expand(words).map(|words| words.len()))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .max()
            .context("iso/grub/grub.cfg starts no kernel")?;
        // The final zero, and the space before the customised words.
        let left = COMMAND_LINE
            .checked_sub(BOOT_IMAGE + longest + 2)
            .context("the menu's own words fill the kernel command line")?;
        let mut text = self
            .custom
            .replace("@KARGS@", &left.to_string())
            .replace("@BASE@", &self.base_words()?);
        ensure!(
            text.contains(&format!("size={CUSTOM_SIZE} ")),
            "iso/custom.cfg does not name the size {CUSTOM_SIZE}"
        );
        while text.len() < CUSTOM_SIZE {
            let line = PADDING_LINE.min(CUSTOM_SIZE - text.len());
            text.push_str(&" ".repeat(line - 1));
            text.push('\n');
        }
        ensure!(text.len() == CUSTOM_SIZE, "iso/custom.cfg is too long");
        Ok(text)
    }

    fn expand(&self, words: &str) -> Result<String> {
        let words = words.split_whitespace().map(|word| match word {
            "$p2v_kargs" => Ok(""),
            _ => match word.strip_prefix('$') {
                Some(name) => self.menu_variable(name),
                None => Ok(word),
            },
        });
        Ok(words.collect::<Result<Vec<_>>>()?.join(" "))
    }
}

/// Files below `from`, with `to` before their paths.
fn add_folder(tree: &mut Tree, from: &Path, to: &str) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let path = format!("{to}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_folder(tree, &entry.path(), &format!("{path}/"))?;
            continue;
        }
        let executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
        let node = Node::File {
            mode: if executable { 0o755 } else { 0o644 },
            data: std::fs::read(entry.path())?,
        };
        tree.insert(path, node);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_this_checkout_is_consistent() {
        let recipe = Recipe::read(&testkit::repo().join("iso")).unwrap();
        let custom = recipe.custom().unwrap();
        assert_eq!(custom.len(), CUSTOM_SIZE);
        let head = custom.lines().next().unwrap();
        let left: usize = head.rsplit_once("kargs=").unwrap().1.parse().unwrap();
        assert!((1600..2000).contains(&left), "{head}");
        assert!(recipe.base_words().unwrap().ends_with("console=tty0"));
        assert!(recipe.find.contains("@ID@"));
        for example in ["pxelinux.cfg", "boot.ipxe", "grub.cfg"] {
            assert!(recipe.pxe[example].contains("@BASE@"), "{example}");
        }
        let script = &recipe.root["usr/lib/p2v/devices"];
        assert!(matches!(script, Node::File { mode: 0o755, .. }));
    }
}
