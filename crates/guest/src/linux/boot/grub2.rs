//! GRUB 2: grub.cfg, with `blscfg` or without, and its default.
//!
//! grub.cfg is a program; it is not run. Its `menuentry` and `submenu` blocks are read wherever they stand, and the
//! default is the last `set default=` that is not for one boot only (`next_entry`).

use crate::linux::os_release::unquote;
use crate::root::join;
use crate::{Recorder, Result, Root};

use super::place::Places;
use super::{GRUB_DIRS, Loader, MenuEntry, bls, find_ci, grubenv, vendors};

/// grub.cfg nests submenus two or three deep.
const MENU_DEPTH_MAX: usize = 16;
/// Where `blscfg` looks on the file system of /boot.
const BLS_DIR: &str = "/boot/loader/entries";

/// A block of grub.cfg.
#[derive(Clone, Debug, Default)]
struct Node {
    is_entry: bool,
    title: String,
    id: String,
    kernel: Option<String>,
    initrds: Vec<String>,
    args: String,
    line: usize,
    /// File of a BLS entry; else it is in grub.cfg.
    bls: Option<String>,
    children: Vec<Node>,
}

/// The grub.cfg that has the menu: below /boot, else in a vendor directory of the ESP (RHEL 7 and before have it there;
/// others have a stub there that leads to /boot).
pub(crate) fn main_config(root: &Root, places: &Places) -> Option<String> {
    let configs = configs(root, places);
    let has_menu = |path: &&String| {
        root.text(path).is_some_and(|text| {
            text.lines()
                .any(|line| matches!(first_word(line), "menuentry" | "submenu" | "blscfg"))
        })
    };
    configs
        .iter()
        .find(has_menu)
        .or_else(|| configs.first())
        .cloned()
}

/// Every grub.cfg, those below /boot first.
pub(crate) fn configs(root: &Root, places: &Places) -> Vec<String> {
    let mut configs: Vec<String> = GRUB_DIRS
        .iter()
        .map(|dir| format!("{dir}/grub.cfg"))
        .collect();
    for esp in &places.esps {
        for vendor in vendors(root, esp) {
            configs.extend(find_ci(root, &vendor, "grub.cfg"));
        }
        // Photon has its GRUB directory on the ESP.
        configs.extend(
            GRUB_DIRS
                .iter()
                .filter_map(|dir| find_ci(root, esp, &format!("{dir}/grub.cfg"))),
        );
    }
    configs.retain(|path| root.is_file(path));
    configs
}

/// The environment blocks.
pub(crate) fn grubenvs(root: &Root, places: &Places) -> Vec<String> {
    let mut paths: Vec<String> = GRUB_DIRS
        .iter()
        .map(|dir| format!("{dir}/grubenv"))
        .collect();
    for esp in &places.esps {
        for vendor in vendors(root, esp) {
            paths.extend(find_ci(root, &vendor, "grubenv"));
        }
    }
    paths.retain(|path| root.is_file(path));
    // /boot/grub2/grubenv of RHEL 8 is a link to the one on the ESP.
    let mut real: Vec<String> = paths
        .iter()
        .map(|path| root.resolve_last(path).unwrap_or_else(|_| path.clone()))
        .collect();
    let mut seen = Vec::new();
    real.retain(|path| {
        let inode = root.meta(path).map(|meta| (meta.dev, meta.ino)).ok();
        let new = !seen.contains(&inode);
        seen.push(inode);
        new
    });
    real
}

/// A variable of the first environment block that has it.
fn variable(root: &Root, places: &Places, name: &str) -> Option<String> {
    grubenvs(root, places)
        .iter()
        .find_map(|path| grubenv::get(&root.text(path)?, name))
}

/// See [`super::entries`].
pub(crate) fn entries(root: &Root, places: &Places) -> Vec<MenuEntry> {
    let Some(config) = main_config(root, places) else {
        return Vec::new();
    };
    let Some(cfg) = root.text(&config) else {
        return Vec::new();
    };
    let kernelopts = variable(root, places, "kernelopts")
        .or_else(|| assigned(&cfg, "kernelopts"))
        .unwrap_or_default();
    let menu = parse(root, &cfg);
    let wanted = match default_setting(&cfg) {
        Setting::Fixed(value) => value,
        Setting::Saved => variable(root, places, "saved_entry").unwrap_or_default(),
    };
    // What names no entry means the first one.
    let default = pick(&menu, &wanted).or_else(|| pick(&menu, "0"));
    let mut out = Vec::new();
    let mut flat = Flatten {
        root,
        places,
        config: &config,
        kernelopts: &kernelopts,
        out: &mut out,
    };
    flat.add(&menu, "", default);
    out
}

struct Flatten<'a> {
    root: &'a Root,
    places: &'a Places,
    config: &'a str,
    kernelopts: &'a str,
    out: &'a mut Vec<MenuEntry>,
}

impl Flatten<'_> {
    fn add(&mut self, nodes: &[Node], above: &str, default: Option<&Node>) {
        for node in nodes {
            let own = if node.id.is_empty() {
                &node.title
            } else {
                &node.id
            };
            let id = format!("{above}{}", own.replace('>', ">>"));
            if node.kernel.is_some() && self.out.len() < super::ENTRIES_MAX {
                let is_default = default.is_some_and(|default| std::ptr::eq(default, node));
                let entry = self.entry(node, id.clone(), is_default);
                self.out.push(entry);
            }
            self.add(&node.children, &format!("{id}>"), default);
        }
    }

    fn entry(&self, node: &Node, id: String, is_default: bool) -> MenuEntry {
        let find = |path: &String| self.places.find(self.root, path);
        let loader = match node.bls {
            Some(_) => Loader::Grub2Bls,
            None => Loader::Grub2,
        };
        let args = node.args.split_whitespace().map(|token| match token {
            "$kernelopts" | "${kernelopts}" => self.kernelopts,
            other => other,
        });
        MenuEntry {
            id,
            title: node.title.clone(),
            kernel: node.kernel.as_ref().and_then(find),
            initrds: node.initrds.iter().filter_map(find).collect(),
            args: args.collect::<Vec<_>>().join(" "),
            line: node.line,
            is_default,
            ..MenuEntry::new(loader, node.bls.as_deref().unwrap_or(self.config))
        }
    }
}

fn parse(root: &Root, cfg: &str) -> Vec<Node> {
    // Open blocks, innermost last; the first is the menu itself. A block that is no entry (function) has no title.
    let mut open: Vec<Node> = vec![Node::default()];
    for (number, line) in cfg.lines().enumerate() {
        let line = line.trim();
        let word = first_word(line);
        let is_kernel = is_kernel_word(word);
        let depth = open.len();
        if line.ends_with('{') && depth < MENU_DEPTH_MAX {
            open.push(block(word, line));
            continue;
        }
        if line == "}" && depth > 1 {
            if let Some(done) = open.pop()
                && let Some(parent) = open.last_mut()
            {
                let children = if done.is_entry {
                    vec![done]
                } else {
                    done.children
                };
                parent.children.extend(children);
            }
            continue;
        }
        let Some(at) = open.last_mut() else { break };
        if word == "blscfg" {
            at.children.extend(bls_nodes(root));
        } else if is_kernel && (at.kernel.is_none() || is_module(word) && !at.is_linux_module()) {
            let mut words = line
                .split_whitespace()
                .skip(1)
                .filter(|word| !word.starts_with("--"));
            at.kernel = words.next().map(str::to_owned);
            at.args = words.collect::<Vec<_>>().join(" ");
            at.line = number + 1;
        } else if word.starts_with("initrd") || is_module(word) {
            let paths = line
                .split_whitespace()
                .skip(1)
                .filter(|word| !word.starts_with("--"));
            at.initrds.extend(paths.map(str::to_owned));
        }
    }
    // A file that is cut off still has the entries before the cut.
    open.into_iter()
        .next()
        .map(|menu| menu.children)
        .unwrap_or_default()
}

impl Node {
    /// Under Xen the first module is the kernel, the second its initramfs; `kernel` begins as the hypervisor.
    fn is_linux_module(&self) -> bool {
        let name = self
            .kernel
            .as_deref()
            .and_then(|path| path.rsplit('/').next());
        !name.is_some_and(|name| name.starts_with("xen"))
    }
}

fn is_module(word: &str) -> bool {
    matches!(word, "module" | "module2")
}

fn is_kernel_word(word: &str) -> bool {
    // SUSE and old Fedora write `linuxefi`, `linux16` or `linux$sixteenbit`.
    word.starts_with("linux") || matches!(word, "multiboot" | "multiboot2") || is_module(word)
}

/// True for a line of grub.cfg that has kernel arguments.
pub(crate) fn is_args(line: &str) -> bool {
    is_kernel_word(first_word(line)) || line.trim_start().starts_with("set kernelopts=")
}

fn block(word: &str, line: &str) -> Node {
    if !matches!(word, "menuentry" | "submenu") {
        return Node::default();
    }
    let id = ["$menuentry_id_option", "${menuentry_id_option}", "--id"]
        .iter()
        .find_map(|option| quoted(line.split_once(option)?.1));
    Node {
        is_entry: true,
        title: quoted(line).unwrap_or_default(),
        id: id.unwrap_or_default(),
        ..Node::default()
    }
}

fn quoted(text: &str) -> Option<String> {
    let start = text.find(['\'', '"'])?;
    let quote = text.get(start..)?.chars().next()?;
    let rest = text.get(start + 1..)?;
    Some(rest.get(..rest.find(quote)?)?.to_owned())
}

fn bls_nodes(root: &Root) -> Vec<Node> {
    let mut entries = bls::read(root, BLS_DIR);
    entries.sort_by(bls::grub_order);
    let node = |entry: bls::Entry| Node {
        is_entry: true,
        title: entry.title,
        id: entry.id,
        kernel: Some(entry.linux),
        initrds: entry.initrds,
        args: entry.options,
        line: entry.options_line,
        bls: Some(entry.path),
        children: Vec::new(),
    };
    entries.into_iter().map(node).collect()
}

/// Follows `1>Advanced>…`: each part a number, a title or an id; `>>` is a `>` of a name.
fn pick<'m>(menu: &'m [Node], wanted: &str) -> Option<&'m Node> {
    let mut level = menu;
    let mut node = None;
    for part in wanted.replace(">>", "\u{0}").split('>') {
        let part = part.replace('\u{0}', ">");
        let by_number = part
            .parse::<usize>()
            .ok()
            .and_then(|index| level.get(index));
        let named = || {
            level
                .iter()
                .find(|node| node.title == part || (!node.id.is_empty() && node.id == part))
        };
        let found = by_number.or_else(named)?;
        level = &found.children;
        node = Some(found);
    }
    let mut node = node?;
    while node.kernel.is_none() {
        node = node.children.first()?;
    }
    Some(node)
}

/// Where the default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    /// Written in grub.cfg.
    Fixed(String),
    /// `saved_entry` of the environment block.
    Saved,
}

fn default_setting(cfg: &str) -> Setting {
    let mut values = cfg
        .lines()
        .filter_map(|line| line.trim().strip_prefix("set default="))
        .map(unquote)
        .filter(|value| !value.is_empty() && !value.contains("next_entry"));
    match values.next_back() {
        Some(value) if value.contains("saved_entry") => Setting::Saved,
        Some(value) if !value.contains('$') => Setting::Fixed(value),
        // `blscfg` alone (Fedora's short grub.cfg) takes the saved entry.
        _ => Setting::Saved,
    }
}

fn assigned(cfg: &str, name: &str) -> Option<String> {
    let start = format!("set {name}=");
    cfg.lines()
        .filter_map(|line| line.trim().strip_prefix(start.as_str()))
        .map(unquote)
        .next_back()
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// Makes an entry the default: in the environment block where grub.cfg asks it, else in grub.cfg and, for the next
/// update-grub, in /etc/default/grub.
pub(crate) fn set_default(
    recorder: &mut Recorder<'_>,
    places: &Places,
    entry: &MenuEntry,
    why: &str,
) -> Result<bool> {
    let root = recorder.root();
    let Some(config) = main_config(root, places) else {
        return Ok(false);
    };
    let id = crate::recorder::from_bytes(entry.id.as_bytes());
    let cfg = root.text(&config).unwrap_or_default();
    if default_setting(&cfg) == Setting::Saved {
        return save_default(recorder, places, &config, &id, why);
    }
    let quoted_id = id.replace(['"', '\\'], "");
    recorder.edit(&config, why, |text| {
        Some(replace_lines(text, |line| {
            let (indent, value) = line.split_once("set default=")?;
            let fixed = indent.trim().is_empty() && !value.contains('$');
            fixed.then(|| format!("{indent}set default=\"{quoted_id}\""))
        }))
    })?;
    recorder.edit("/etc/default/grub", why, |text| {
        Some(replace_lines(text, |line| {
            line.trim_start()
                .starts_with("GRUB_DEFAULT=")
                .then(|| format!("GRUB_DEFAULT=\"{quoted_id}\""))
        }))
    })?;
    Ok(true)
}

fn save_default(
    recorder: &mut Recorder<'_>,
    places: &Places,
    config: &str,
    id: &str,
    why: &str,
) -> Result<bool> {
    let mut paths = grubenvs(recorder.root(), places);
    if paths.is_empty() {
        let dir = config.rsplit_once('/').map_or("", |(dir, _)| dir);
        recorder.write(&join(dir, "grubenv"), &empty_block(), why)?;
        paths.push(join(dir, "grubenv"));
    }
    let mut fits = true;
    for path in paths {
        recorder.edit(&path, why, |block| {
            let new = grubenv::set(block, "saved_entry", id);
            fits &= new.is_some();
            new
        })?;
    }
    Ok(fits)
}

fn empty_block() -> Vec<u8> {
    let mut block = grubenv::SIGNATURE.as_bytes().to_vec();
    block.resize(grubenv::LEN, b'#');
    block
}

/// Replaces the lines for which `new` gives something; line ends stay.
pub(crate) fn replace_lines(text: &str, new: impl Fn(&str) -> Option<String>) -> String {
    text.split_inclusive('\n')
        .map(|line| {
            let body = line.trim_end_matches(['\n', '\r']);
            let end = line.strip_prefix(body).unwrap_or_default();
            new(body).map_or_else(|| line.to_owned(), |new| new + end)
        })
        .collect()
}
