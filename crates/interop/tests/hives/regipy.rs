//! regipy (PyPI), in a Python environment of its own under target/.

use std::path::{Path, PathBuf};

use testkit::cmd;

use crate::tree::{Tree, Values};
use crate::venv;

/// The release that these tests were written with.
const RELEASE: &str = "regipy==6.5.0";

/// Prints a line for each key and value, in hexadecimal where any byte can be: `k PATH`, `v NAME TYPE DATA`. regipy itself
/// interprets data, so its own raw reader of a value is asked.
const SCRIPT: &str = r#"
import io, sys
from regipy.registry import RegistryHive
from regipy.structs import REGF_HEADER_SIZE, VALUE_KEY
from regipy.utils import boomerang_stream
from construct import Int32ul

hexed = lambda text: text.encode("utf-8", "surrogatepass").hex() or "-"

def raw(key):
    stream = key._stream
    stream.seek(REGF_HEADER_SIZE + 4 + key.header.values_list_offset)
    for _ in range(key.values_count):
        offset = Int32ul.parse_stream(stream)
        with boomerang_stream(stream) as s:
            s.seek(REGF_HEADER_SIZE + 4 + offset)
            vk = VALUE_KEY.parse_stream(s)
            name = vk.name.decode("latin-1" if vk.flags.VALUE_COMP_NAME else "utf-16-le", "surrogatepass")
            if vk.data_size >= 0x80000000:
                data = Int32ul.build(vk.data_offset)[: vk.data_size - 0x80000000]
            elif vk.data_size == 0:
                data = b""
            else:
                value = key.read_value(vk, s)
                data = value.value
                if vk.data_size > 0x3FD8 and data[:2] == b"db":
                    data = key._parse_indirect_block(s, value)
                data = data[: vk.data_size]
            yield name, int(vk.data_type), data

def walk(key, path):
    print("k", hexed(path))
    if key.values_count:
        for name, kind, data in raw(key):
            print("v", hexed(name), kind, data.hex() or "-")
    if key.subkey_count:
        for sub in key.iter_subkeys():
            walk(sub, path + "\\" + sub.name if path else sub.name)

sys.setrecursionlimit(10000)
walk(RegistryHive(sys.argv[1]).root, "")
"#;

/// A Python that has regipy; `None` where it cannot be made, and in CI, for whose time two other readers are enough.
pub(crate) fn python() -> Option<PathBuf> {
    Some(venv::programs(RELEASE)?.join("python"))
}

/// Reads a clean hive.
pub(crate) fn read(python: &Path, hive: &Path) -> Tree {
    let mut command = cmd::command(python.to_str().unwrap(), ["-c", SCRIPT]);
    let text = cmd::output(command.arg(hive)).unwrap();
    let mut tree = Tree::new();
    let mut path = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.as_slice() {
            ["k", key] => {
                path = text_of(key);
                tree.insert(path.clone(), Values::new());
            }
            ["v", name, kind, data] => {
                let data = (kind.parse().unwrap(), bytes_of(data));
                tree.get_mut(&path).unwrap().insert(text_of(name), data);
            }
            _ => panic!("a strange line: {line}"),
        }
    }
    tree
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let hex = if hex == "-" { "" } else { hex };
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high) << 4 | digit(*low)).unwrap();
    pairs.iter().map(byte).collect()
}

fn text_of(hex: &str) -> String {
    String::from_utf8_lossy(&bytes_of(hex)).into_owned()
}
