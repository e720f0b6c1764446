//! The module lists of an initramfs with what is added to it: what the guest's own depmod wrote stays, and what it wrote of
//! the added modules for the whole kernel comes along.
//!
//! Running depmod on all modules that an initramfs carries takes as long as unpacking them all, twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::Root;
use crate::linux::initrd::Contents;
use crate::linux::kmod_index::KmodIndex;
use crate::linux::modules::Modules;
use crate::root::join;

/// A list of a distribution's kernel has up to 2 MiB.
const LIST_MAX: u64 = 32 << 20;
/// kmod finds a module's file and needs here, by its name (modules.dep(5)).
const DEP_BIN: &str = "modules.dep.bin";
/// The same for busybox and for people.
const DEP: &str = "modules.dep";
/// By the alias of a device, kmod finds the module here.
const ALIAS_BIN: &str = "modules.alias.bin";
/// Lists in both forms whose values, or last words, are modules.
const BY_VALUE: [(&str, &str); 2] = [
    ("modules.alias", ALIAS_BIN),
    ("modules.symbols", "modules.symbols.bin"),
];
/// Lists for people only, and the word of a line that is a module (modprobe.d(5), `softdep`; kmod, tools/depmod.c).
const BY_WORD: [(&str, usize); 3] = [
    ("modules.softdep", 1),
    ("modules.weakdep", 1),
    ("modules.devname", 0),
];

/// What the lists are about.
pub(crate) struct Lists<'l> {
    pub(crate) root: &'l Root,
    pub(crate) modules: &'l Modules,
    pub(crate) contents: &'l Contents,
    pub(crate) kver: &'l str,
    /// Names of the modules that are added.
    pub(crate) added: &'l [String],
}

impl Lists<'_> {
    /// Names and contents of the lists that change; `None` when those that there are do not say enough: then depmod has to make them.
    pub(crate) fn with_added(&self) -> Option<BTreeMap<String, Vec<u8>>> {
        let mut out = BTreeMap::new();
        let mut dep = KmodIndex::read(self.inside(DEP_BIN)?)?;
        // Without it, a driver would not be found by its device.
        self.inside(ALIAS_BIN)?;
        // module-init-tools before 3.5 has absolute paths.
        if self.inside(DEP).is_some_and(|old| old.starts_with(b"/")) {
            return None;
        }
        let paths = self.paths(&dep)?;
        let whole = KmodIndex::read(&self.of_kernel(DEP_BIN)?)?;
        let mut text = String::new();
        for name in self.added {
            let line = self.dep_line(name, &paths)?;
            let (priority, _) = whole.get(name)?;
            dep.add(name.as_bytes(), *priority, line.as_bytes());
            text += &line;
            text.push('\n');
        }
        out.insert(DEP_BIN.to_owned(), dep.write()?);
        self.append(DEP, text.as_bytes(), &mut out);
        for (name, bin) in BY_VALUE {
            self.add_by_value(name, bin, &mut out)?;
        }
        for (name, word) in BY_WORD {
            let lines = self.lines(name, |line| line.split_whitespace().nth(word));
            self.append(name, &lines, &mut out);
        }
        Some(out)
    }

    /// A list in the initramfs.
    fn inside(&self, name: &str) -> Option<&[u8]> {
        let path = format!("{}/{name}", self.contents.module_dir(self.kver));
        self.contents.lists.get(&path).map(Vec::as_slice)
    }

    /// The same list of the whole kernel.
    fn of_kernel(&self, name: &str) -> Option<Vec<u8>> {
        let path = join(&self.modules.dir, name);
        self.root.read(&path, LIST_MAX).ok()
    }

    /// Where each module is in the initramfs; `None` when one of its modules is not listed.
    fn paths(&self, dep: &KmodIndex) -> Option<BTreeMap<String, String>> {
        let mut paths = BTreeMap::new();
        for (name, values) in dep.entries() {
            let line = values.first().map(|(_, line)| line.as_slice())?;
            let path = line.split(|&byte| byte == b':').next()?;
            let [name, path] = [name, path].map(|bytes| String::from_utf8(bytes.to_vec()));
            paths.insert(name.ok()?, path.ok()?);
        }
        let have = self.contents.modules_of(self.kver);
        if !have.iter().all(|name| paths.contains_key(name)) {
            return None;
        }
        for name in self.added {
            let path = self.modules.relative_path(name)?;
            paths.insert(name.clone(), path.to_owned());
        }
        Some(paths)
    }

    /// `path: paths of what it needs`, the nearest first.
    fn dep_line(&self, name: &str, paths: &BTreeMap<String, String>) -> Option<String> {
        let mut line = format!("{}:", paths.get(name)?);
        for need in self.modules.listed_needs(name)? {
            line.push(' ');
            line += paths.get(need)?;
        }
        Some(line)
    }

    fn add_by_value(
        &self,
        name: &str,
        bin: &str,
        out: &mut BTreeMap<String, Vec<u8>>,
    ) -> Option<()> {
        let added: BTreeSet<&[u8]> = self.added.iter().map(|name| name.as_bytes()).collect();
        if let Some(old) = self.inside(bin) {
            let mut index = KmodIndex::read(old)?;
            let whole = KmodIndex::read(&self.of_kernel(bin)?)?;
            let mut is_new = false;
            for (key, values) in whole.entries() {
                // Of the same priority, depmod has the last first.
                for (priority, value) in values.iter().rev() {
                    if added.contains(value.as_slice()) {
                        index.add(key, *priority, value);
                        is_new = true;
                    }
                }
            }
            if is_new {
                out.insert(bin.to_owned(), index.write()?);
            }
        }
        let lines = self.lines(name, |line| line.split_whitespace().next_back());
        self.append(name, &lines, out);
        Some(())
    }

    /// Lines of the whole kernel's list whose word that `module` finds is an added module.
    fn lines<'m>(&self, name: &str, module: impl Fn(&str) -> Option<&str> + 'm) -> Vec<u8> {
        if self.inside(name).is_none() {
            return Vec::new();
        }
        let whole = self.of_kernel(name).unwrap_or_default();
        let whole = String::from_utf8_lossy(&whole);
        let is_added = |line: &&str| {
            let module = module(line).map(|module| module.replace('-', "_"));
            module.is_some_and(|module| self.added.contains(&module))
        };
        let lines = whole.lines().filter(is_added);
        lines
            .flat_map(|line| [line, "\n"])
            .collect::<String>()
            .into_bytes()
    }

    /// A text list of the initramfs with these lines at its end, if it has one.
    fn append(&self, name: &str, lines: &[u8], out: &mut BTreeMap<String, Vec<u8>>) {
        if let Some(old) = self.inside(name)
            && !lines.is_empty()
        {
            out.insert(name.to_owned(), [old, lines].concat());
        }
    }
}
