//! (being written)

/// Overlay.
#[derive(Debug)]
pub struct Overlay;
