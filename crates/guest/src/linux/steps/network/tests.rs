//! Whole trees: every manager in every layout, names and edits as goldens, and the second run that changes nothing.

mod addresses;
mod hostile;
mod layouts;
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use types::{Change, NicModel, StaticIp, StepOutcome};

use crate::linux::convert::Context;
use crate::tests::tree::{Tree, mac, options};

/// A guest's files and its machine.
#[derive(Default)]
struct Case {
    files: Vec<(String, String)>,
    links: Vec<(String, String)>,
    models: Vec<Option<NicModel>>,
    ips: Vec<StaticIp>,
}

impl Case {
    fn new(nics: usize, files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self {
            files: files.iter().map(owned).collect(),
            models: vec![None; nics],
            ..Self::default()
        }
    }

    fn models(mut self, models: &[NicModel]) -> Self {
        self.models = models.iter().cloned().map(Some).collect();
        self
    }

    fn tree(&self) -> Tree {
        let tree = Tree::debian();
        fs::remove_file(tree.at("/etc/network/interfaces")).unwrap();
        for (path, text) in &self.files {
            tree.put(path, text.as_bytes());
        }
        for (path, target) in &self.links {
            let path = tree.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&path);
            std::os::unix::fs::symlink(target, path).unwrap();
        }
        tree
    }

    /// Takes the step alone.
    fn convert(&self, tree: &Tree) -> Done {
        let macs: Vec<_> = (1u8..).take(self.models.len()).map(mac).collect();
        let mut options = options(&macs);
        for (nic, model) in options.nics.iter_mut().zip(&self.models) {
            nic.model.clone_from(model);
        }
        options.static_ips.clone_from(&self.ips);
        let (root, guest) = (tree.root(), tree.inspect());
        let lent = crate::Lent::default();
        let mut context = Context::new(&root, &guest, &tree.storage, &options, &lent);
        context.network = super::plan(&context);
        let names = context
            .network
            .names
            .iter()
            .map(|(_, name)| name.clone())
            .collect();
        context.recorder.begin("network");
        super::apply(&mut context).unwrap_or_else(|error| panic!("{}", error.chain()));
        context.recorder.end();
        let (changes, warnings, steps) = context.recorder.finish();
        Done {
            names,
            changes,
            warnings,
            outcome: steps[0].outcome,
        }
    }

    /// Converts twice; what became of each file of the network.
    fn golden(&self) -> String {
        let tree = self.tree();
        let before = texts(&tree);
        let done = self.convert(&tree);
        let after = texts(&tree);
        let mut report = String::new();
        let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for path in paths {
            let (old, new) = (before.get(path), after.get(path));
            if old != new {
                report += &format!("=== {path}\n");
                report += &diff(
                    old.map_or("", String::as_str),
                    new.map_or("", String::as_str),
                );
            }
        }
        for warning in &done.warnings {
            report += &format!("!!! {warning}\n");
        }
        let again = self.convert(&tree);
        assert_eq!(
            again.changes,
            [],
            "the second run changes something\n{report}"
        );
        assert_eq!(again.names, done.names);
        assert_eq!(texts(&tree), after);
        report
    }
}

/// What the step did.
struct Done {
    names: Vec<String>,
    changes: Vec<Change>,
    warnings: Vec<String>,
    outcome: StepOutcome,
}

/// Every file and link of the tree.
fn texts(tree: &Tree) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![tree.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let path = format!(
                "/{}",
                entry
                    .path()
                    .strip_prefix(tree.dir.path())
                    .unwrap()
                    .display()
            );
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_symlink() {
                all.insert(
                    path,
                    format!("-> {}\n", fs::read_link(entry.path()).unwrap().display()),
                );
            } else {
                all.insert(
                    path,
                    String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned(),
                );
            }
        }
    }
    all
}

/// Lines that went, came and stayed, by the longest common subsequence.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut len = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            len[i][j] = if old[i] == new[j] {
                len[i + 1][j + 1] + 1
            } else {
                len[i + 1][j].max(len[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        let (sign, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            (' ', old[i - 1])
        } else if i < old.len() && (j == new.len() || len[i + 1][j] >= len[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        out += format!("{sign} {line}").trim_end();
        out.push('\n');
    }
    out
}
