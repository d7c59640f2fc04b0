//! Memory that is asked for before it is read.

/// Asks for values that are read soon. Where a kernel takes short pieces that stand far apart in
/// memory, the processor does not see by itself what comes next.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        /// Of a cache line.
        const VALUES: usize = 64 / size_of::<f32>();
        for line in values.chunks(VALUES) {
            // SAFETY: every x86-64 has the instruction; it is a hint and changes nothing but caches.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
