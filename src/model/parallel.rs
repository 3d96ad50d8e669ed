//! Work shared out among threads. Which thread does what is left to chance, so the work must be
//! such that it does not matter: every piece writes its own output.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Runs `run` on every piece of `work`, on `threads` threads (at least one), each with a scratch
/// value of its own. Pieces are taken in order, so uneven ones balance out.
pub(super) fn each<W: Send, S>(
    threads: usize,
    work: impl Iterator<Item = W> + Send,
    scratch: impl Fn() -> S + Sync,
    run: impl Fn(&mut S, W) + Sync,
) {
    let work = Mutex::new(work);
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        let mut scratch = scratch();
        while let Some(piece) = take() {
            run(&mut scratch, piece);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
}
