//! What a hive should hold, as a map; random edits of both; a hive of every structure.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Hive, Kind, Value};

/// Time of writing in tests.
pub(crate) const NOW: u64 = 0x01d2_4504_0000_0000;

/// Numbers that look random (splitmix64), the same for a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Makes a base block that was changed, or left open, a clean one.
pub(crate) fn close(bytes: &mut [u8]) {
    bytes.copy_within(4..8, 8);
    let sum = bytes[..508].chunks(4).fold([0; 4], |sum: [u8; 4], word| {
        std::array::from_fn(|at| sum[at] ^ word[at])
    });
    bytes[508..512].copy_from_slice(&sum);
}

/// An empty hive of a minor version.
pub(crate) fn empty(minor: u8) -> Hive {
    let mut bytes = Hive::create("ROOT").to_bytes(NOW);
    bytes[0x18] = minor;
    close(&mut bytes);
    Hive::open(bytes).unwrap()
}

/// Values of a key by folded name.
type Values = BTreeMap<String, (String, Value)>;

/// Keys by folded path, with the path as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model(pub(crate) BTreeMap<String, (String, Values)>);

/// Upper case where one letter stays one.
pub(crate) fn fold(text: &str) -> String {
    text.chars()
        .map(|letter| {
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) if !one.is_ascii() || letter.is_ascii() => one,
                _ => letter,
            }
        })
        .collect()
}

fn below(path: &str, parent: &str) -> bool {
    path == parent
        || path
            .strip_prefix(parent)
            .is_some_and(|rest| rest.starts_with('\\'))
}

impl Model {
    /// Everything of a hive.
    pub(crate) fn of(hive: &Hive) -> Self {
        let mut model = Self::default();
        let mut left = vec![String::new()];
        while let Some(path) = left.pop() {
            let values = hive.values(&path).unwrap();
            let values = values
                .into_iter()
                .map(|(name, value)| (fold(&name), (name, value)));
            for name in hive.keys(&path).unwrap() {
                left.push(join(&path, &name));
            }
            let folded = fold(&path);
            assert!(model.0.insert(folded, (path, values.collect())).is_none());
        }
        model
    }

    pub(crate) fn create_key(&mut self, path: &str) -> bool {
        let mut made = false;
        let mut so_far = String::new();
        for part in path.split('\\') {
            so_far = join(&so_far, part);
            let written = self.written(&so_far);
            self.0.entry(fold(&so_far)).or_insert_with(|| {
                made = true;
                (written, Values::new())
            });
        }
        made
    }

    /// The path as it will be read: what is there already keeps its letters.
    fn written(&self, path: &str) -> String {
        let Some((parent, name)) = path.rsplit_once('\\') else {
            return path.to_owned();
        };
        join(&self.0[&fold(parent)].0, name)
    }

    pub(crate) fn set(&mut self, path: &str, name: &str, value: &Value) -> bool {
        self.create_key(path);
        let values = &mut self.0.get_mut(&fold(path)).unwrap().1;
        match values.get_mut(&fold(name)) {
            Some((_, old)) if old == value => false,
            Some((_, old)) => {
                *old = value.clone();
                true
            }
            None => {
                values.insert(fold(name), (name.to_owned(), value.clone()));
                true
            }
        }
    }

    pub(crate) fn delete_value(&mut self, path: &str, name: &str) -> bool {
        let values = self.0.get_mut(&fold(path));
        values.is_some_and(|(_, values)| values.remove(&fold(name)).is_some())
    }

    pub(crate) fn delete_key(&mut self, path: &str) -> bool {
        let path = fold(path);
        let before = self.0.len();
        let doomed: Vec<String> = self
            .0
            .range(path.clone()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&path))
            .filter(|key| below(key, &path))
            .cloned()
            .collect();
        for key in doomed {
            self.0.remove(&key);
        }
        before != self.0.len()
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}\\{name}")
    }
}

/// Parts that names are made of: ASCII, Latin-1, Greek, Cyrillic, what has no case, a pair of surrogates.
const WORDS: &[&str] = &[
    "Services",
    "viostor",
    "PCI#VEN_1AF4&DEV_1001",
    "a",
    "Z",
    "zz",
    "_",
    "0001",
    "Größe",
    "ÿ",
    "µ",
    "Ωμέγα",
    "журнал",
    "中文",
    "🦀",
    "{4D36E97B-E325-11CE-BFC1-08002BE10318}",
    "x y",
    "É",
    "ſ",
];

fn name(random: &mut Random) -> String {
    let word = *random.pick(WORDS);
    match random.below(4) {
        0 => word.to_owned(),
        1 => word.to_lowercase(),
        _ => format!("{word}{}", random.below(400)),
    }
}

fn path(random: &mut Random, keys: &[String]) -> String {
    match random.below(3) {
        0 if !keys.is_empty() => join(random.pick::<String>(keys), &name(random)),
        1 if !keys.is_empty() => random.pick(keys).clone(),
        _ => join("Edited", &name(random)),
    }
}

fn value(random: &mut Random) -> Value {
    let len = match random.below(40) {
        0 => 16_344 + random.below(3),
        1 => random.below(70_000),
        2..10 => random.below(5),
        _ => random.below(200),
    };
    Value {
        kind: Kind(random.below(13) as u32),
        data: random.bytes(len),
    }
}

/// Makes edits on both, below `roots` and below `Edited`; both must say the same of each.
pub(crate) fn edit(
    hive: &mut Hive,
    model: &mut Model,
    random: &mut Random,
    roots: &[String],
    count: usize,
) {
    let mut keys: Vec<String> = roots.to_vec();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for _ in 0..count {
        let path = path(random, &keys);
        if path.len() > 600 {
            continue;
        }
        let name = match random.below(5) {
            0 => String::new(),
            1 => names.last().cloned().unwrap_or_default(),
            _ => self::name(random),
        };
        match random.below(20) {
            0..6 => {
                let made = hive.create_key(&path).unwrap();
                assert_eq!(made, model.create_key(&path), "{path}");
                keys.push(path);
            }
            6..15 => {
                let value = value(random);
                let set = hive.set(&path, &name, &value).unwrap();
                assert_eq!(set, model.set(&path, &name, &value), "{path} {name}");
                assert_eq!(hive.value(&path, &name).unwrap(), Some(value));
                names.insert(name);
                keys.push(path);
            }
            15..18 => {
                let deleted = hive.delete_value(&path, &name).unwrap();
                assert_eq!(deleted, model.delete_value(&path, &name), "{path} {name}");
            }
            _ if random.below(3) == 0 => {
                let deleted = hive.delete_key(&path).unwrap();
                assert_eq!(deleted, model.delete_key(&path), "{path}");
                let gone = fold(&path);
                keys.retain(|key| !below(&fold(key), &gone));
            }
            _ => assert_eq!(hive.has(&path).unwrap(), model.0.contains_key(&fold(&path))),
        }
    }
}

/// A hive with everything that this program writes: an `ri`, big data, wide names, values of every length, gaps.
pub(crate) fn full() -> Hive {
    let mut hive = Hive::create("FULL");
    for number in 0..1100 {
        hive.create_key(&format!("many\\{number:04}")).unwrap();
    }
    let mut model = Model::of(&hive);
    edit(&mut hive, &mut model, &mut Random(7), &[], 400);
    Hive::open(hive.to_bytes(NOW)).unwrap()
}
