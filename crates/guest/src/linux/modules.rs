//! Modules of one installed kernel: which exist, which are built in, what each needs (modules.dep(5)).

use std::collections::{BTreeMap, BTreeSet};

use crate::linux::kernel_config::KernelConfig;
use crate::linux::kernels;
use crate::root::{CONFIG_MAX, Kind, join};
use crate::{Result, Root};

/// modules.dep of a distribution kernel has about 5000 lines of up to some hundred bytes; its limit is a file's.
const TREE_DEPTH_MAX: usize = 12;

/// Modules of one kernel. Names are spelled with `_`, as the kernel spells them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Modules {
    /// Directory in the guest.
    pub(crate) dir: String,
    builtin: BTreeSet<String>,
    /// Name to path below `dir`.
    files: BTreeMap<String, String>,
    /// Name to names that it needs, all levels (as depmod writes them) or one level.
    deps: BTreeMap<String, Vec<String>>,
    /// How the kernel was configured.
    pub(crate) config: KernelConfig,
}

/// Configuration symbols of drivers whose presence is asked for, for kernels older than modules.builtin (2.6.33).
const SYMBOLS: [(&str, &str); 20] = [
    ("CONFIG_VIRTIO", "virtio"),
    ("CONFIG_VIRTIO", "virtio_ring"),
    ("CONFIG_VIRTIO_RING", "virtio_ring"),
    ("CONFIG_VIRTIO_PCI", "virtio_pci"),
    ("CONFIG_VIRTIO_PCI_LIB", "virtio_pci_modern_dev"),
    ("CONFIG_VIRTIO_PCI_LIB_LEGACY", "virtio_pci_legacy_dev"),
    ("CONFIG_VIRTIO_BLK", "virtio_blk"),
    ("CONFIG_VIRTIO_NET", "virtio_net"),
    ("CONFIG_SCSI_VIRTIO", "virtio_scsi"),
    ("CONFIG_VIRTIO_CONSOLE", "virtio_console"),
    ("CONFIG_VIRTIO_BALLOON", "virtio_balloon"),
    ("CONFIG_HW_RANDOM_VIRTIO", "virtio_rng"),
    ("CONFIG_SCSI", "scsi_mod"),
    ("CONFIG_BLK_DEV_SD", "sd_mod"),
    ("CONFIG_BLK_DEV_DM", "dm_mod"),
    ("CONFIG_DM_CRYPT", "dm_crypt"),
    ("CONFIG_EXT4_FS", "ext4"),
    ("CONFIG_XFS_FS", "xfs"),
    ("CONFIG_BTRFS_FS", "btrfs"),
    ("CONFIG_E1000", "e1000"),
];

impl Modules {
    /// Reads the lists of /lib/modules/KVER.
    pub(crate) fn read(root: &Root, kver: &str) -> Self {
        let dirs = [
            format!("/lib/modules/{kver}"),
            format!("/usr/lib/modules/{kver}"),
        ];
        let [first, second] = &dirs;
        let merged = root.is_dir(first) || !root.is_dir(second);
        let mut modules = Self {
            dir: if merged { first } else { second }.clone(),
            config: KernelConfig::read(root, kver),
            ..Self::default()
        };
        let text = |name: &str| root.text(&join(&modules.dir, name)).unwrap_or_default();
        modules.builtin = text("modules.builtin")
            .lines()
            .filter_map(module_name)
            .collect();
        modules.builtin.extend(builtin_modinfo(root, &modules.dir));
        if modules.builtin.is_empty()
            && modules.config.is_empty()
            && let Some(vmlinuz) = kernels::vmlinuz(root, kver)
        {
            modules.config = KernelConfig::embedded(root, kver, &vmlinuz);
        }
        let dep = text("modules.dep");
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else {
                continue;
            };
            let Some(name) = module_name(path) else {
                continue;
            };
            modules.deps.insert(
                name.clone(),
                needs.split_whitespace().filter_map(module_name).collect(),
            );
            modules
                .files
                .insert(name, relative(path, &modules.dir).to_owned());
        }
        if modules.files.is_empty() {
            modules.walk(root);
        }
        for line in modules.config.lines() {
            let Some(symbol) = line.strip_suffix("=y") else {
                continue;
            };
            let names = SYMBOLS.iter().filter(|(have, _)| *have == symbol);
            modules
                .builtin
                .extend(names.map(|(_, name)| (*name).to_owned()));
        }
        modules
    }

    /// Without modules.dep: names from the tree, needs from each module as it is asked for.
    fn walk(&mut self, root: &Root) {
        let mut todo = vec![(String::new(), 0)];
        while let Some((below, depth)) = todo.pop() {
            for entry in root.list(&join(&self.dir, &below)).unwrap_or_default() {
                let path = if below.is_empty() {
                    entry.name.clone()
                } else {
                    format!("{below}/{}", entry.name)
                };
                match entry.kind {
                    Kind::Dir if depth < TREE_DEPTH_MAX => todo.push((path, depth + 1)),
                    Kind::File => {
                        if let Some(name) = module_name(&path) {
                            self.files.entry(name).or_insert(path);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// True when the kernel can drive it: a module of it exists, or it is built in.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.is_builtin(name) || self.files.contains_key(name)
    }

    /// True when it is part of the kernel image.
    pub(crate) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    /// True when it is a module of its own, so that it can be missing in an initramfs.
    pub(crate) fn is_loadable(&self, name: &str) -> bool {
        !self.is_builtin(name) && self.files.contains_key(name)
    }

    /// Names that it needs, what is needed first.
    pub(crate) fn needs(&self, root: &Root, name: &str) -> Vec<String> {
        let mut all = self.closure(root, &[name]);
        all.pop();
        all
    }

    /// Path in the guest of a module's file.
    pub(crate) fn path(&self, name: &str) -> Option<String> {
        Some(join(&self.dir, self.files.get(name)?))
    }

    /// Path below the kernel's module directory.
    pub(crate) fn relative_path(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }

    /// Names that modules.dep lists behind it, built-in ones never among them.
    pub(crate) fn listed_needs(&self, name: &str) -> Option<&[String]> {
        self.deps.get(name).map(Vec::as_slice)
    }

    /// These modules and all that they need, what is needed first; built-in ones and ones that do not exist left out.
    pub(crate) fn closure(&self, root: &Root, names: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(root, name, &mut seen, &mut out);
        }
        out
    }

    fn visit(&self, root: &Root, name: &str, seen: &mut BTreeSet<String>, out: &mut Vec<String>) {
        if !seen.insert(name.to_owned()) || self.is_builtin(name) || !self.files.contains_key(name)
        {
            return;
        }
        let needs = match self.deps.get(name) {
            Some(needs) => needs.clone(),
            None => self.modinfo_depends(root, name).unwrap_or_default(),
        };
        // depmod lists the nearest need first.
        for need in needs.iter().rev() {
            self.visit(root, need, seen, out);
        }
        out.push(name.to_owned());
    }

    /// The `depends=` of a module's own .modinfo section.
    fn modinfo_depends(&self, root: &Root, name: &str) -> Result<Vec<String>> {
        let Some(path) = self.path(name) else {
            return Ok(Vec::new());
        };
        let content = super::initrd::compress::read_module(root, &path)?;
        let info = modinfo(&content, "depends").unwrap_or_default();
        Ok(info
            .split(',')
            .filter(|need| !need.is_empty())
            .map(|need| need.replace('-', "_"))
            .collect())
    }
}

/// Names in modules.builtin.modinfo: `name.key=value` strings, each ended by a zero byte (Linux 5.2 on).
fn builtin_modinfo(root: &Root, dir: &str) -> Vec<String> {
    let path = join(dir, "modules.builtin.modinfo");
    if !root.is_file(&path) {
        return Vec::new();
    }
    let content = root.read(&path, CONFIG_MAX).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for entry in content.split(|&byte| byte == 0) {
        let name = entry.split(|&byte| byte == b'.').next().unwrap_or_default();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !name.is_empty() && name.len() < entry.len() && name.iter().all(plain) {
            let name = String::from_utf8_lossy(name).replace('-', "_");
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Value of a key in the .modinfo section of a module: `key=value` strings, each ended by a zero byte
/// (include/linux/moduleparam.h, `__MODULE_INFO`).
pub(crate) fn modinfo(module: &[u8], key: &str) -> Option<String> {
    use object::{Object, ObjectSection};
    let file = object::File::parse(module).ok()?;
    let data = file.section_by_name(".modinfo")?.data().ok()?;
    data.split(|&byte| byte == 0).find_map(|entry| {
        let text = std::str::from_utf8(entry).ok()?;
        Some(text.strip_prefix(key)?.strip_prefix('=')?.to_owned())
    })
}

/// `virtio_blk` for `kernel/drivers/block/virtio-blk.ko.xz`; `None` for what is no module.
pub(crate) fn module_name(path: &str) -> Option<String> {
    let file = path.trim().rsplit('/').next()?;
    let stem = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"]
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix))?;
    (!stem.is_empty()).then(|| stem.replace('-', "_"))
}

/// Old depmods write absolute paths.
fn relative<'p>(path: &'p str, dir: &str) -> &'p str {
    let path = path.trim();
    path.strip_prefix(dir)
        .map_or(path, |rest| rest.trim_start_matches('/'))
}
