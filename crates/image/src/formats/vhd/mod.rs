//! VHD, the virtual disk of Virtual PC, Hyper-V and Azure; qemu-img calls it vpc.

mod reader;

pub use reader::Reader;
