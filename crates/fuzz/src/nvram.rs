//! Stores of UEFI variables that are written, and load options that are shortened.

use uefi::{Guid, LoadOption, Store, store};

const VENDOR: Guid = Guid([0xf5; 16]);

/// Writes a variable into the store, if it is one.
pub(crate) fn extended(data: &[u8]) {
    let Ok(mut flash) = Store::open(data.to_vec()) else {
        return;
    };
    let count = |flash: &Store| store::variables(flash.bytes()).map_or(0, Iterator::count);
    let before = count(&flash);
    if flash.set(VENDOR, "fuzz", 7, b"content").is_ok() {
        assert_eq!(flash.get(VENDOR, "fuzz"), Some(&b"content"[..]));
        assert_eq!(count(&flash), before + 1);
        assert_eq!(flash.bytes().len(), data.len());
        let again = Store::open(flash.bytes().to_vec());
        assert!(again.is_ok_and(|again| again == flash));
    }
}

/// What is read is written as it was; what is shortened begins with its partition, and reads back.
pub(crate) fn load_option(data: &[u8]) {
    let Ok(option) = LoadOption::parse(data) else {
        return;
    };
    assert_eq!(option.to_bytes(), data);
    let _ = option.description();
    if let Some(short) = option.shortened() {
        assert_eq!(short.file_on_partition(), option.file_on_partition());
        assert_eq!(short.shortened().as_ref(), Some(&short));
        assert_eq!(LoadOption::parse(&short.to_bytes()), Ok(short));
    }
}
