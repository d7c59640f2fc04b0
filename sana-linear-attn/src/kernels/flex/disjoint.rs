//! Results that parallel tasks write in pieces which no slice can be cut into.

use std::marker::PhantomData;

/// A buffer that tasks write disjoint parts of, borrowed for as long as they do.
pub(super) struct Disjoint<'a> {
    start: *mut f32,
    length: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is used by `write` alone, whose callers write disjoint parts.
#[allow(unsafe_code)]
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub fn new(buffer: &'a mut [f32]) -> Self {
        Self {
            start: buffer.as_mut_ptr(),
            length: buffer.len(),
            buffer: PhantomData,
        }
    }

    /// # Safety
    /// No other task writes this part of the buffer.
    #[allow(unsafe_code)]
    pub unsafe fn write(&self, offset: usize, values: &[f32]) {
        assert!(offset + values.len() <= self.length, "beyond the buffer");
        // SAFETY: inside the buffer by the assertion, and ours alone by the caller's promise.
        unsafe {
            let target = self.start.add(offset);
            std::ptr::copy_nonoverlapping(values.as_ptr(), target, values.len());
        }
    }
}
