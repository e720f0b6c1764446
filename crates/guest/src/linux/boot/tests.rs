//! Menus of every loader.
