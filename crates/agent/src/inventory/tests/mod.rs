//! Machines made of folders, disks made by the tools that make real ones.

mod contents;
mod disks;
mod machine;
mod nics;
mod tree;
