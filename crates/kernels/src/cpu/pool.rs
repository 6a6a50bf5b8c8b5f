//! Large buffers kept for the next tensor of their size.
//!
//! A step makes and drops the same tensors again and again. Fresh memory costs a page fault each
//! 4 KiB, which for the largest tensors is a tenth of the time of the product that fills them.

use std::sync::{Mutex, PoisonError};

/// The least elements of a buffer that is worth keeping.
const KEPT_MIN: usize = 16 << 10;

/// Buffers that were dropped, ordered by capacity.
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

    /// A buffer of `len` elements of which each is `value`.
    pub(crate) fn filled(&self, len: usize, value: T) -> Vec<T> {
        match self.reuse(len) {
            Some(mut buffer) => {
                buffer.clear();
                buffer.resize(len, value);
                buffer
            }
            None => vec![value; len],
        }
    }

    /// A buffer of `len` elements that the caller overwrites; `value` or left by the last user.
    pub(crate) fn unwritten(&self, len: usize, value: T) -> Vec<T> {
        match self.reuse(len) {
            Some(mut buffer) => {
                buffer.resize(len, value);
                buffer
            }
            None => vec![value; len],
        }
    }

    /// Keeps a buffer that nobody needs any more.
    pub(crate) fn keep(&self, buffer: Vec<T>) {
        if KEPT_MIN <= buffer.capacity() {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let place = kept.partition_point(|other| other.capacity() < buffer.capacity());
            kept.insert(place, buffer);
        }
    }

    /// A kept buffer with room for `len` elements and at most a quarter more.
    fn reuse(&self, len: usize) -> Option<Vec<T>> {
        if len < KEPT_MIN {
            return None;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.partition_point(|buffer| buffer.capacity() < len);
        if kept.get(place).is_some_and(|buffer| buffer.capacity() <= len + len / 4) {
            return Some(kept.remove(place));
        }
        let mut freed = 0;
        while freed < len
            && let Some(buffer) = kept.pop()
        {
            freed += buffer.capacity();
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
        pool.keep(pool.filled(3 * KEPT_MIN, 4));
        let large = pool.filled(2 * KEPT_MIN, 5);
        assert_eq!(large.len(), 2 * KEPT_MIN);
        let kept = pool.0.lock().unwrap();
        assert_eq!(kept.len(), 0, "too large and too small ones were freed for it");
    }

    #[test]
    fn small_buffers_are_not_kept() {
        let pool = Pool::new();
        pool.keep(vec![0_u8; KEPT_MIN - 1]);
        assert!(pool.0.lock().unwrap().is_empty());
    }
}
