//! End-to-end scenarios live beside this file, one story each; this library is empty.
