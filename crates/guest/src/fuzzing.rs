//! The parsers of this crate as the fuzzer calls them: bytes in, nothing out. Not for other use.

use crate::linux::kmod_index::KmodIndex;
use crate::windows::drivers::inf::{Inf, Platform};

/// A driver's .inf file, asked as for every Windows.
pub fn inf(data: &[u8]) {
    let Ok(inf) = Inf::parse(data) else { return };
    let _ = (inf.has_signature(), inf.class_guid(), inf.provider());
    let _ = (inf.driver_ver(), inf.version("Class"));
    for (arch, major, minor, build) in [
        ("x86", 5, 1, 2600),
        ("x86", 6, 1, 7601),
        ("amd64", 6, 3, 9600),
        ("arm64", 10, 0, 26_100),
    ] {
        let platform = Platform {
            arch,
            major,
            minor,
            build,
            server: major == 10,
        };
        let _ = (inf.catalog(platform), inf.targets(platform));
        let _ = inf.source_files(platform);
        for model in inf.models(platform).iter().take(MODELS) {
            let _ = inf.install_section(&model.install, platform);
        }
    }
}

/// A binary module list: what can be written again is the same.
pub fn kmod_index(data: &[u8]) {
    if let Some(index) = KmodIndex::read(data)
        && let Some(written) = index.write()
    {
        assert_eq!(KmodIndex::read(&written), Some(index));
    }
}

/// Models whose sections are looked up.
const MODELS: usize = 100;
