//! What the fuzzer begins with. `V2V_UPDATE_SEEDS=1 cargo test -p source seeds` writes the files anew.

use std::fs;

use super::builder::{Layout, vmcx};
use super::sample;

#[test]
fn the_seeds_of_the_fuzzer_are_what_the_builder_makes() {
    let dense = Layout {
        keys_a_table: 10_000,
        ..Layout::default()
    };
    let spread = Layout {
        keys_a_table: 90,
        big: 120,
        second_table: Some(4),
        ..Layout::default()
    };
    let files = [
        (
            "vmcx/generation-1.vmcx",
            vmcx(&sample::generation_1(), &dense),
        ),
        (
            "vmcx/generation-2.vmcx",
            vmcx(&sample::generation_2(), &spread),
        ),
        (
            "hyperv_xml/generation-1.xml",
            sample::xml_utf16(&sample::generation_1()),
        ),
        (
            "hyperv_xml/generation-2.xml",
            sample::xml(&sample::generation_2()).into_bytes(),
        ),
    ];
    let seeds = testkit::repo().join("crates/fuzz/seeds");
    for (name, bytes) in files {
        let path = seeds.join(name);
        if std::env::var_os("V2V_UPDATE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(
            fs::read(&path).unwrap() == bytes,
            "{} is another file",
            path.display()
        );
    }
}
