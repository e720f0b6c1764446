//! The step on hives of whole machines: what it sets, key by key.

mod fixtures;
mod hostile;
mod machine;
mod small;
