//! The real driver tree of ../shared/fixtures: its .inf files, and the names of all others.

use std::io::Read;
use std::path::{Path, PathBuf};

/// Path in the tree and content; only .inf files have any. `None`, said loudly, where the fixtures are absent.
pub(crate) fn tree() -> Option<Vec<(String, Vec<u8>)>> {
    let pack = fixtures().join("virtio-win-inf.tar.xz");
    let Ok(file) = std::fs::File::open(&pack) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "missing in CI: {}",
            pack.display()
        );
        eprintln!("SKIP: fixtures are absent: set V2V_FIXTURES");
        return None;
    };
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut names = String::new();
    let mut archive = tar::Archive::new(lzma_rust2::XzReader::new(file, false));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let Some(path) = path.strip_prefix("virtio-win/") else {
            continue;
        };
        if path == "files.txt" {
            entry.read_to_string(&mut names).unwrap();
        } else if path.ends_with(".inf") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.push((path.to_owned(), content));
        }
    }
    for name in names.lines().filter(|name| !name.ends_with(".inf")) {
        files.push((name.to_owned(), Vec::new()));
    }
    files.sort();
    assert!(files.len() > 300, "{}", files.len());
    Some(files)
}

fn fixtures() -> PathBuf {
    if let Some(dir) = std::env::var_os("V2V_FIXTURES") {
        return PathBuf::from(dir);
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).unwrap().join("shared/fixtures")
}
