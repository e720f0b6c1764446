//! Where the agent says that a disk holds data. Only hints: a lie costs the agent's own disk.

use std::ops::Range;

use wire::MAX_EXTENTS;
use wire::session::ExtentsReply;

/// Ranges kept of one disk; what lies behind them counts as data.
const MAX_KEPT: usize = 1 << 20;

/// What is known of one disk.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// Byte ranges with data, ascending and apart.
    data: Vec<Range<u64>>,
    /// They are known up to here.
    known_to: u64,
    /// Number of the request under way and the bytes that it is about.
    pub(super) asked: Option<(u64, Range<u64>)>,
}

impl Extents {
    /// The bytes to ask about next.
    pub(super) fn unknown(&self, virtual_size: u64) -> Option<Range<u64>> {
        let more = self.known_to < virtual_size && self.data.len() < MAX_KEPT;
        more.then_some(self.known_to..virtual_size)
    }

    /// Takes an answer in. The error says what is wrong with it; nothing of it is kept then.
    pub(super) fn answer(&mut self, reply: &ExtentsReply) -> Result<(), String> {
        let Some((_, asked)) = self.asked.take_if(|(id, _)| *id == reply.id) else {
            return Err("it was not asked for".to_owned());
        };
        if !reply.error.is_empty() {
            return Err(super::one_line(&reply.error));
        }
        if reply.data.len() > MAX_EXTENTS {
            return Err(format!(
                "expected at most {MAX_EXTENTS} ranges, found {}",
                reply.data.len()
            ));
        }
        let mut last = asked.start;
        let mut found = Vec::with_capacity(reply.data.len());
        for range in &reply.data {
            match range.offset.checked_add(range.len) {
                Some(end) if range.offset >= last && range.len > 0 && end <= asked.end => {
                    found.push(range.offset..end);
                    last = end;
                }
                _ => {
                    return Err(format!(
                        "its range of {} bytes at {:#x} is outside of what was asked for or out of order",
                        range.len, range.offset
                    ));
                }
            }
        }
        self.known_to = if found.len() == MAX_EXTENTS {
            last
        } else {
            asked.end
        };
        self.data.append(&mut found);
        Ok(())
    }

    /// Whether there are data at `offset`, and where that changes at the earliest.
    pub(super) fn at(&self, offset: u64) -> (bool, u64) {
        if offset >= self.known_to {
            return (true, u64::MAX);
        }
        let next = self.data.partition_point(|range| range.end <= offset);
        match self.data.get(next) {
            Some(range) if range.start <= offset => (true, range.end),
            Some(range) => (false, range.start),
            None => (false, self.known_to),
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::session::Range as WireRange;

    use super::*;

    fn reply(id: u64, ranges: &[(u64, u64)]) -> ExtentsReply {
        ExtentsReply {
            id,
            data: ranges
                .iter()
                .map(|&(offset, len)| WireRange { offset, len })
                .collect(),
            error: String::new(),
        }
    }

    #[test]
    fn a_full_list_is_continued_where_it_ends() {
        let mut extents = Extents::default();
        let size = 10 << 30;
        assert_eq!(extents.at(5), (true, u64::MAX));
        extents.asked = Some((1, extents.unknown(size).unwrap()));
        let full: Vec<_> = (0..MAX_EXTENTS as u64).map(|n| (n * 8192, 4096)).collect();
        extents.answer(&reply(1, &full)).unwrap();
        let end = (MAX_EXTENTS as u64 - 1) * 8192 + 4096;
        assert_eq!(extents.unknown(size), Some(end..size));
        assert_eq!(extents.at(4096), (false, 8192));
        assert_eq!(extents.at(8193), (true, 8192 + 4096));
        assert_eq!(extents.at(end), (true, u64::MAX));
        extents.asked = Some((2, end..size));
        extents.answer(&reply(2, &[(1 << 30, 512)])).unwrap();
        assert_eq!(extents.unknown(size), None);
        assert_eq!(extents.at(end), (false, 1 << 30));
        assert_eq!(extents.at((1 << 30) + 512), (false, size));
    }

    #[test]
    fn answers_that_contradict_the_question_are_refused() {
        let lies: [&[(u64, u64)]; 5] = [
            &[(0, 512)],
            &[(5000, 0)],
            &[(5000, 10), (5005, 10)],
            &[(5000, u64::MAX)],
            &[(9000, 10_000)],
        ];
        for lie in lies {
            let mut extents = Extents {
                asked: Some((7, 4096..10_000)),
                ..Extents::default()
            };
            assert!(extents.answer(&reply(7, lie)).is_err(), "{lie:?}");
            assert_eq!(extents.at(0), (true, u64::MAX));
        }
        let mut extents = Extents::default();
        assert!(extents.answer(&reply(7, &[])).is_err());
    }
}
