//! Results that parallel tasks write in pieces which no slice can be cut into.

/// A buffer that tasks write disjoint parts of.
pub(super) struct Disjoint {
    start: *mut f32,
    length: usize,
}

// SAFETY: the pointer is used by `write` alone, whose callers write disjoint parts.
#[allow(unsafe_code)]
unsafe impl Sync for Disjoint {}

impl Disjoint {
    pub fn new(buffer: &mut [f32]) -> Self {
        Self {
            start: buffer.as_mut_ptr(),
            length: buffer.len(),
        }
    }

    /// # Safety
    /// The buffer lives, and nobody else reads or writes this part of it meanwhile.
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
