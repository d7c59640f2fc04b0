//! Results that parallel tasks write in pieces which no slice can be cut into.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A buffer that tasks write disjoint parts of, borrowed for as long as they do. It may be memory
/// that nothing was written to yet, and is not read.
pub(super) struct Disjoint<'a> {
    start: *mut f32,
    length: usize,
    buffer: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: the pointer is used by `write` alone, whose callers write disjoint parts.
#[allow(unsafe_code)]
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    fn new(buffer: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            start: buffer.as_mut_ptr().cast(),
            length: buffer.len(),
            buffer: PhantomData,
        }
    }

    /// # Safety
    /// No other task writes this part of the buffer.
    #[allow(unsafe_code)]
    pub unsafe fn write(&self, offset: usize, values: &[f32]) {
        let room = self.length.checked_sub(offset);
        assert!(
            room.is_some_and(|room| values.len() <= room),
            "beyond the buffer"
        );
        // SAFETY: inside the buffer by the assertion, and ours alone by the caller's promise.
        unsafe {
            let target = self.start.add(offset);
            std::ptr::copy_nonoverlapping(values.as_ptr(), target, values.len());
        }
    }
}

/// A vector whose values `write` fills. Nothing is spent on clearing it before.
///
/// # Safety
/// `write` writes all `length` values.
#[allow(unsafe_code)]
pub(super) unsafe fn filled(length: usize, write: impl FnOnce(&Disjoint<'_>)) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    write(&Disjoint::new(&mut values.spare_capacity_mut()[..length]));
    // SAFETY: the values are there, by the caller's promise.
    unsafe { values.set_len(length) };
    values
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    fn write(offset: usize, values: &[f32]) -> Vec<f32> {
        let mut buffer = [const { MaybeUninit::new(0f32) }; 4];
        let target = Disjoint::new(&mut buffer);
        // SAFETY: there is one task.
        unsafe { target.write(offset, values) };
        // SAFETY: all were zeros before.
        buffer.map(|value| unsafe { value.assume_init() }).to_vec()
    }

    #[test]
    fn up_to_the_end() {
        assert_eq!(write(2, &[1.0, 2.0]), [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(write(4, &[]), [0.0; 4]);
    }

    #[test]
    #[should_panic(expected = "beyond the buffer")]
    fn not_beyond_it() {
        write(3, &[1.0, 2.0]);
    }

    /// The sum of offset and length is 0 in 64 bits.
    #[test]
    #[should_panic(expected = "beyond the buffer")]
    fn not_by_a_sum_that_wraps() {
        write(usize::MAX - 1, &[1.0, 2.0]);
    }
}
