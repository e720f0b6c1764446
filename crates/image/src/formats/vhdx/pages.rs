//! Pages of BATs and sector bitmaps, kept for all images of a chain within one bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::content::Content;
use super::to_usize;
use crate::Result;

/// Bytes of a page: 8192 BAT entries, or the bits of 256 MiB in sectors of 512 bytes.
pub(super) const PAGE_LEN: u64 = 64 << 10;
/// Most pages kept: 8 MiB.
const MAX_PAGES: usize = 128;

/// Pages by layer of the chain and file offset.
#[derive(Debug, Default)]
pub(super) struct Pages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<Key, Kept>,
    /// Counts uses; a page holds its value at its last use.
    clock: u64,
}

/// Layer of the chain, and file offset.
type Key = (usize, u64);
/// The clock at the last use, and the page.
type Kept = (u64, Arc<[u8]>);

impl Pages {
    fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let clock = state.clock;
        let (used, page) = state.pages.get_mut(&key)?;
        *used = clock;
        Some(Arc::clone(page))
    }

    /// Keeps a page; the older half goes when there are too many.
    fn insert(&self, key: Key, page: Arc<[u8]>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.pages.len() >= MAX_PAGES {
            let mut uses: Vec<u64> = state.pages.values().map(|(used, _)| *used).collect();
            uses.sort_unstable();
            let median = uses[uses.len() / 2];
            state.pages.retain(|_, (used, _)| *used >= median);
        }
        state.clock += 1;
        let clock = state.clock;
        state.pages.insert(key, (clock, page));
    }
}

/// Reads a table through its pages and holds the last one, so that walking costs a lock a page. No lock is held
/// while reading.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    content: &'a Content,
    pages: &'a Pages,
    layer: usize,
    held: Option<(u64, Arc<[u8]>)>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(content: &'a Content, pages: &'a Pages, layer: usize) -> Self {
        Self {
            content,
            pages,
            layer,
            held: None,
        }
    }

    /// The bytes from `offset` to the end of its page; at least one where the file is so long. Pages start at
    /// multiples of their length; the last of the file is short.
    pub(super) fn rest_of_page(&mut self, offset: u64) -> Result<&[u8]> {
        let start = offset - offset % PAGE_LEN;
        if self.held.as_ref().is_none_or(|(held, _)| *held != start) {
            let key = (self.layer, start);
            let page = match self.pages.get(key) {
                Some(page) => page,
                None => {
                    let len = PAGE_LEN.min(self.content.len().saturating_sub(start));
                    let page: Arc<[u8]> = self.content.read_vec(start, to_usize(len))?.into();
                    self.pages.insert(key, Arc::clone(&page));
                    page
                }
            };
            self.held = Some((start, page));
        }
        let page = self.held.as_ref().map_or(&[][..], |(_, page)| page);
        Ok(page.get(to_usize(offset - start)..).unwrap_or_default())
    }
}
