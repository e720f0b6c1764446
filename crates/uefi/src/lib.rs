//! What UEFI firmware keeps in its flash: variables, and among them the boot menu. Bytes in, bytes out, no I/O.
//!
//! ```text
//! store         a flash file of EDK2 (OVMF, VirtualBox): variables are read, added, replaced
//!   menu        BootOrder and Boot####, as a list of load options
//!     load_option   one entry: what it is called, where it starts, what the program is told
//!       device_path     a partition and a file on it
//! ```
//!
//! All of it may come from strangers: nothing is believed before it is checked, nothing panics.

pub mod device_path;
mod error;
pub mod load_option;
pub mod menu;
pub mod store;

pub use error::{Error, Result};
pub use load_option::LoadOption;
pub use store::{Layout, Store};
pub use types::Guid;

/// Little-endian UTF-16 with the null character at its end, as UEFI has texts.
pub fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// The text before the first null character; what is no UTF-16 becomes U+FFFD.
pub fn text(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|&unit| unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}
