//! Chooses the files of the image out of the unpacked packages: programs, the shared libraries that their ELF
//! headers ask for, and kernel modules with their dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};

use super::apt;
use super::cpio::Node;

/// Files of the image by path, without leading slash.
pub(crate) type Tree = BTreeMap<String, Node>;

/// Where Debian's amd64 libraries are, in the image and in the packages (also without `usr/`).
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Where udev's RUNPATH leads to.
const SYSTEMD_LIBRARIES: &str = "usr/lib/x86_64-linux-gnu/systemd";
/// No module is larger; a bound for damaged packages.
const MAX_MODULE: u64 = 256 << 20;

/// Picks files out of packages, each unpacked in a directory of its own name.
pub(crate) struct Picker {
    unpacked: PathBuf,
    /// What was picked.
    pub(crate) tree: Tree,
    /// Packages that something was picked from.
    pub(crate) packages: BTreeSet<String>,
}

impl Picker {
    /// Nothing picked yet from `unpacked`, the parent of the packages' directories.
    pub(crate) fn new(unpacked: &Path) -> Self {
        Picker {
            unpacked: unpacked.to_owned(),
            tree: Tree::new(),
            packages: BTreeSet::new(),
        }
    }

    /// Adds `program` (a path with leading slash, in a merged-/usr system) and the libraries that it needs; also a
    /// file that is no program.
    pub(crate) fn program(&mut self, program: &str) -> Result<()> {
        let path = program.trim_start_matches('/');
        let data = self
            .take(path)?
            .with_context(|| format!("no package holds {program}"))?;
        let mode = match data.as_slice() {
            [0x7f, b'E', b'L', b'F', ..] => {
                self.libraries(&data)
                    .with_context(|| format!("libraries of {program}"))?;
                0o755
            }
            [b'#', b'!', ..] => 0o755,
            _ => 0o644,
        };
        self.tree.insert(path.to_owned(), Node::File { mode, data });
        Ok(())
    }

    /// Adds the libraries and the interpreter that the ELF file `data` asks for, and theirs.
    pub(crate) fn libraries(&mut self, data: &[u8]) -> Result<()> {
        let mut queue = needed(data)?;
        while let Some(name) = queue.pop() {
            let places = [LIBRARIES, SYSTEMD_LIBRARIES].map(|folder| format!("{folder}/{name}"));
            let mut found = None;
            for place in places {
                if let Some(library) = self.take(&place)? {
                    found = Some((place, library));
                    break;
                }
            }
            let (place, library) =
                found.with_context(|| format!("no package holds the library {name}"))?;
            let path = if name.starts_with("ld-linux") {
                format!("usr/lib64/{name}")
            } else {
                place
            };
            if self.tree.contains_key(&path) {
                continue;
            }
            queue.extend(needed(&library)?);
            self.tree.insert(
                path,
                Node::File {
                    mode: 0o755,
                    data: library,
                },
            );
        }
        Ok(())
    }

    /// Content of `path` from the package that has it, also where packages of before the /usr merge have it without
    /// `usr/`.
    pub(crate) fn take(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        for package in entries(&self.unpacked)? {
            let root = self.unpacked.join(&package);
            let unmerged = path.strip_prefix("usr/").unwrap_or(path);
            for file in [root.join(path), root.join(unmerged)] {
                // A link may be relative to a directory that only the merge has; then the target is in the list too.
                if file.is_file() {
                    self.packages.insert(package);
                    let data = std::fs::read(&file)
                        .with_context(|| format!("reading {}", file.display()))?;
                    return Ok(Some(data));
                }
            }
        }
        Ok(None)
    }

    /// Adds the modules called `names` of the only kernel, what they depend on, and depmod's indexes over just these.
    /// Gives the kernel's release and image. `scratch` is an empty directory for depmod to work in.
    pub(crate) fn modules(
        &mut self,
        names: &[String],
        scratch: &Path,
    ) -> Result<(String, PathBuf)> {
        let kernel = entries(&self.unpacked)?
            .into_iter()
            .find(|package| package.starts_with("linux-image-"))
            .context("no kernel package was unpacked")?;
        let root = self.unpacked.join(&kernel);
        self.packages.insert(kernel);
        let release = add_modules(&mut self.tree, &root, names, scratch)?;
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        Ok((release, image))
    }
}

/// Names in a directory, in order.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// DT_NEEDED entries and the base name of the interpreter.
fn needed(data: &[u8]) -> Result<Vec<String>> {
    let file = ElfFile64::<object::Endianness>::parse(data).context("reading an ELF file")?;
    let endian = file.endian();
    let mut names = Vec::new();
    for header in file.elf_header().program_headers(endian, data)? {
        if let Ok(Some(interpreter)) = header.interpreter(endian, data) {
            let interpreter = String::from_utf8_lossy(interpreter).into_owned();
            names.extend(interpreter.rsplit('/').next().map(str::to_owned));
        }
    }
    let sections = file.elf_section_table();
    if let Some((entries, link)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        for entry in entries
            .iter()
            .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
        {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

fn add_modules(tree: &mut Tree, root: &Path, names: &[String], scratch: &Path) -> Result<String> {
    let modules = ["usr/lib/modules", "lib/modules"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.is_dir())
        .context("the packages hold no kernel modules")?;
    let release = only_entry(&modules)?;
    let source = modules.join(&release);

    // depmod needs BASE/lib/modules/RELEASE.
    let everything = scratch.join("all");
    std::fs::create_dir_all(everything.join("lib/modules"))?;
    std::os::unix::fs::symlink(&source, everything.join("lib/modules").join(&release))?;
    depmod(&everything, &release)?;
    let chosen = choose(&source, names)?;

    let chosen_base = scratch.join("chosen");
    let target = chosen_base.join("lib/modules").join(&release);
    for path in &chosen {
        let plain = plain_name(path);
        let file = target.join(&plain);
        std::fs::create_dir_all(file.parent().unwrap_or(&target))?;
        std::fs::write(&file, decompress(&source.join(path))?)?;
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        std::fs::copy(source.join(list), target.join(list))
            .with_context(|| format!("copying {list}"))?;
    }
    depmod(&chosen_base, &release)?;
    add_directory(tree, &target, &format!("usr/lib/modules/{release}"))?;
    Ok(release)
}

fn depmod(base: &Path, release: &str) -> Result<()> {
    let program = ["/usr/sbin/depmod", "/sbin/depmod"]
        .iter()
        .find(|path| Path::new(path).exists());
    let program = program.context("depmod is missing (Debian package: kmod)")?;
    apt::run(Command::new(program).arg("-b").arg(base).arg(release)).map(drop)
}

/// Paths in `source` of the named modules and of those that they need, by modules.dep.
///
/// A name with a slash stands for all modules whose path (`kernel/drivers/…`) begins with it, but for those whose path
/// begins with a name that follows a `-`. `NAME?` may be missing.
fn choose(source: &Path, names: &[String]) -> Result<BTreeSet<String>> {
    let dep = std::fs::read_to_string(source.join("modules.dep")).context("reading modules.dep")?;
    let builtin = std::fs::read_to_string(source.join("modules.builtin"))
        .context("reading modules.builtin")?;
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut by_name = BTreeMap::new();
    for line in dep.lines() {
        if let Some((path, needs)) = line.split_once(':') {
            by_name.insert(module_name(path), (path, needs));
        }
    }
    let mut chosen = BTreeSet::new();
    let left_out: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix('-'))
        .collect();
    let (folders, names): (Vec<&String>, Vec<&String>) = names
        .iter()
        .filter(|name| !name.starts_with('-'))
        .partition(|name| name.contains('/'));
    for folder in folders {
        let start = folder.trim_end_matches('?');
        let mut found = false;
        for (path, needs) in by_name.values() {
            if path.starts_with(start) && !left_out.iter().any(|out| path.starts_with(out)) {
                found = true;
                chosen.insert((*path).to_owned());
                chosen.extend(needs.split_whitespace().map(str::to_owned));
            }
        }
        ensure!(
            found || folder.ends_with('?'),
            "the kernel has no module under {folder}"
        );
    }
    for name in names {
        let optional = name.ends_with('?');
        let name = name.trim_end_matches('?').replace('-', "_");
        match by_name.get(&name) {
            // modules.dep lists all that a module needs, not only its direct neighbours.
            Some((path, needs)) => {
                chosen.insert((*path).to_owned());
                chosen.extend(needs.split_whitespace().map(str::to_owned));
            }
            None if builtin.contains(&name) => {}
            None if optional => super::say(&format!("this kernel has no module {name}")),
            None => bail!("the kernel has no module {name}"),
        }
    }
    Ok(chosen)
}

/// `kernel/fs/xfs/xfs.ko.xz` is `xfs`; the kernel takes `-` and `_` for the same.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn plain_name(path: &str) -> String {
    path.trim_end_matches(".xz")
        .trim_end_matches(".zst")
        .trim_end_matches(".gz")
        .to_owned()
}

fn decompress(path: &Path) -> Result<Vec<u8>> {
    let packed = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut plain = Vec::new();
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("xz") => lzma_rust2::XzReader::new(packed.as_slice(), false)
            .take(MAX_MODULE)
            .read_to_end(&mut plain),
        Some("zst") => zstd::stream::read::Decoder::new(packed.as_slice())?
            .take(MAX_MODULE)
            .read_to_end(&mut plain),
        Some("gz") => flate2::read::GzDecoder::new(packed.as_slice())
            .take(MAX_MODULE)
            .read_to_end(&mut plain),
        _ => return Ok(packed),
    }
    .with_context(|| format!("unpacking {}", path.display()))?;
    Ok(plain)
}

fn add_directory(tree: &mut Tree, from: &Path, to: &str) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let path = format!("{to}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_directory(tree, &entry.path(), &path)?;
        } else {
            tree.insert(
                path,
                Node::File {
                    mode: 0o644,
                    data: std::fs::read(entry.path())?,
                },
            );
        }
    }
    Ok(())
}

fn only_entry(dir: &Path) -> Result<String> {
    match entries(dir)?.as_slice() {
        [name] => Ok(name.clone()),
        names => bail!("{} holds {names:?}, expected one kernel", dir.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_ignore_folder_suffix_and_dashes() {
        for path in [
            "kernel/drivers/md/dm-mod.ko.xz",
            "dm-mod.ko",
            "x/dm_mod.ko.zst",
        ] {
            assert_eq!(module_name(path), "dm_mod");
        }
        assert_eq!(
            plain_name("kernel/fs/xfs/xfs.ko.xz"),
            "kernel/fs/xfs/xfs.ko"
        );
    }

    #[test]
    fn modules_come_with_dependencies_and_builtin_ones_count() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "modules.dep",
            "k/xfs.ko.xz: k/libcrc32c.ko.xz k/crc.ko.xz\nk/crc.ko.xz:\nk/other.ko.xz:\n",
        );
        write("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
        let chosen = choose(dir.path(), &["xfs".into(), "ext4".into(), "ntfs3?".into()]).unwrap();
        assert_eq!(
            chosen.into_iter().collect::<Vec<_>>(),
            ["k/crc.ko.xz", "k/libcrc32c.ko.xz", "k/xfs.ko.xz"]
        );
        let error = choose(dir.path(), &["zfs".into()]).unwrap_err().to_string();
        assert!(error.contains("zfs"), "{error}");
        let names = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let chosen = choose(dir.path(), &names(&["k/", "-k/xfs", "-k/crc"])).unwrap();
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), ["k/other.ko.xz"]);
        assert!(
            choose(dir.path(), &names(&["nowhere/?"]))
                .unwrap()
                .is_empty()
        );
        assert!(choose(dir.path(), &names(&["nowhere/"])).is_err());
    }

    #[test]
    fn elf_headers_name_libraries_and_interpreter() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let names = needed(&this).unwrap();
        assert!(names.iter().any(|name| name == "libc.so.6"), "{names:?}");
        assert!(
            names.iter().any(|name| name.starts_with("ld-linux")),
            "{names:?}"
        );
    }
}
