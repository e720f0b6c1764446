//! Work on several threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// Gives the items to `count` threads, one at a time and in order; their results in the same order. A thread that fails takes no
/// more; the first error is returned when all threads have ended.
pub(crate) fn each<T, I, R>(
    count: usize,
    items: I,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>>
where
    I: IntoIterator<Item = T, IntoIter: Send>,
    R: Send,
{
    let waiting = Mutex::new(items.into_iter().enumerate());
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    };
    let lane = || -> Result<Vec<(usize, R)>> {
        std::iter::from_fn(next)
            .map(|(place, item)| Ok((place, work(item)?)))
            .collect()
    };
    let ended = thread::scope(|scope| {
        let lanes: Vec<_> = (0..count.max(1)).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .map(|lane| {
                lane.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<Vec<_>>()
    });
    let results: Vec<Vec<_>> = ended.into_iter().collect::<Result<_>>()?;
    let mut results: Vec<_> = results.into_iter().flatten().collect();
    results.sort_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::ensure;

    use super::*;

    #[test]
    fn results_keep_their_order_and_an_error_is_told_after_all() {
        let slow_first = |item: u64| {
            thread::sleep(Duration::from_millis(20 - 4 * item));
            Ok(item * item)
        };
        assert_eq!(each(3, 0..5, slow_first).unwrap(), [0, 1, 4, 9, 16]);
        let done = Mutex::new(Vec::new());
        let error = each(2, 0..6, |item| {
            ensure!(item != 1, "no {item}");
            done.lock().unwrap().push(item);
            Ok(())
        });
        assert_eq!(error.unwrap_err().to_string(), "no 1");
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, [0, 2, 3, 4, 5]);
    }
}
