//! Settings that VirtualBox 7.2 wrote, and settings made here.

mod fixtures;
mod made;
