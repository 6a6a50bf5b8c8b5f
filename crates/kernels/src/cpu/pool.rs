//! Large buffers kept for the next tensor of their size.
//!
//! A step makes and drops the same tensors again and again, of nearly the same sizes. Fresh memory
//! costs a page fault each 4 KiB, which for the largest tensors is a tenth of the time of the
//! product that fills them. A buffer keeps its whole length, however little of it is asked for, so
//! that nothing is filled when the next request is larger.

use std::sync::{Mutex, PoisonError};

/// The least elements of a buffer that is worth keeping.
const KEPT_MIN: usize = 16 << 10;

/// How many times larger than the request a buffer may be.
const LARGER: usize = 2;

/// Buffers that were dropped, ordered by length.
///
/// Whenever a request finds no buffer, kept ones of at least its size are freed first, as far as
/// there are any. So buffers in use and kept together never hold more than the most that was ever
/// in use at once.
pub(crate) struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T: Copy> Pool<T> {
    /// A pool without buffers.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// A buffer of at least `len` elements, of which the first `len` are `value`.
    pub(crate) fn filled(&self, len: usize, value: T) -> Vec<T> {
        match self.reuse(len) {
            Some(mut buffer) => {
                buffer[..len].fill(value);
                buffer
            }
            None => vec![value; len],
        }
    }

    /// A buffer of at least `len` elements that the caller overwrites; `value` or left by the last
    /// user.
    pub(crate) fn unwritten(&self, len: usize, value: T) -> Vec<T> {
        self.reuse(len).unwrap_or_else(|| vec![value; len])
    }

    /// Keeps a buffer that nobody needs any more.
    pub(crate) fn keep(&self, buffer: Vec<T>) {
        if KEPT_MIN <= buffer.len() {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let place = kept.partition_point(|other| other.len() < buffer.len());
            kept.insert(place, buffer);
        }
    }

    /// The smallest kept buffer of at least `len` elements, if it is not much larger.
    fn reuse(&self, len: usize) -> Option<Vec<T>> {
        if len < KEPT_MIN {
            return None;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.partition_point(|buffer| buffer.len() < len);
        if kept.get(place).is_some_and(|buffer| buffer.len() <= LARGER * len) {
            return Some(kept.remove(place));
        }
        let mut freed = 0;
        while freed < len
            && let Some(buffer) = kept.pop()
        {
            freed += buffer.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MIN, Pool};

    #[test]
    fn a_buffer_of_the_size_comes_back_and_others_make_room() {
        let pool = Pool::new();
        let buffer = pool.filled(KEPT_MIN, 1);
        let address = buffer.as_ptr();
        pool.keep(buffer);
        let buffer = pool.unwritten(KEPT_MIN - KEPT_MIN / 8, 2);
        assert_ne!(buffer.as_ptr(), address, "below the least size nothing is looked for");
        let buffer = pool.filled(KEPT_MIN, 3);
        assert_eq!(buffer.as_ptr(), address, "the same memory");
        assert!(buffer.iter().all(|value| *value == 3), "with the new values");
        pool.keep(buffer);
        pool.keep(pool.filled(5 * KEPT_MIN, 4));
        let large = pool.filled(2 * KEPT_MIN, 5);
        assert_eq!(large.len(), 2 * KEPT_MIN);
        let kept = pool.0.lock().unwrap();
        assert_eq!(kept.len(), 0, "too large and too small ones were freed for others");
    }

    #[test]
    fn a_buffer_keeps_its_length() {
        let pool = Pool::new();
        pool.keep(pool.filled(2 * KEPT_MIN, 1));
        let buffer = pool.filled(KEPT_MIN + 1, 2);
        assert_eq!((buffer.len(), buffer[KEPT_MIN], buffer[KEPT_MIN + 1]), (2 * KEPT_MIN, 2, 1));
        pool.keep(buffer);
        assert_eq!(pool.unwritten(2 * KEPT_MIN, 3)[2 * KEPT_MIN - 1], 1, "nothing was filled");
    }

    #[test]
    fn small_buffers_are_not_kept() {
        let pool = Pool::new();
        pool.keep(vec![0_u8; KEPT_MIN - 1]);
        assert!(pool.0.lock().unwrap().is_empty());
    }
}
