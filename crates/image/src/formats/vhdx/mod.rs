//! VHDX, Hyper-V's virtual disk since 2012.

mod reader;

pub use reader::Reader;
