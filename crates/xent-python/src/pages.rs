//! Pages for a gradient that is about to be written.

/// Memory that is large enough for its pages to matter.
#[cfg(target_os = "linux")]
const LARGE: usize = 8 << 20;

/// Asks for huge pages under memory that is about to be written from end to end. New memory comes a
/// page at a time, and that takes longer than the gradient itself.
#[cfg(target_os = "linux")]
pub(crate) fn advise<T>(memory: &mut [T]) {
    const PAGE: usize = 1 << 12;
    let bytes = size_of_val(memory);
    if bytes < LARGE {
        return;
    }
    let start = memory.as_mut_ptr().addr().next_multiple_of(PAGE);
    let end = (memory.as_ptr().addr() + bytes) / PAGE * PAGE;
    // SAFETY: whole pages of memory that is borrowed here; the advice changes no byte of it. It may
    // be refused, and nothing depends on it.
    unsafe {
        libc::madvise(
            std::ptr::with_exposed_provenance_mut(start),
            end - start,
            libc::MADV_HUGEPAGE,
        )
    };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn advise<T>(_: &mut [T]) {}
