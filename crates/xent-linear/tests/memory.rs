//! The memory of a call: a counting allocator, on one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use xent::{Config, Element, bf16};
use xent_linear::{Gradients, Linear, LinearCriterion, Matrix, MatrixMut, Workspace};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as of this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as of this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that a call holds beside what it is given.
fn peak<T: Element>(
    [rows, features, classes]: [usize; 3],
    ignored: usize,
    frozen: bool,
    workspace: &mut Workspace<T::Real>,
) -> usize {
    let number = |i: usize| T::from_f64((i * 37 % 101) as f64 / 101.0 - 0.5);
    let hidden: Vec<T> = (0..rows * features).map(number).collect();
    let weight: Vec<T> = (0..classes * features).map(number).collect();
    let targets: Vec<i64> =
        (0..rows).map(|row| if row % 10 < ignored { -100 } else { row as i64 }).collect();
    let mut to_hidden = vec![T::from_f64(1.0); hidden.len()];
    let mut to_weight = vec![T::Real::from_f64(1.0); if frozen { 0 } else { weight.len() }];
    let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).build().unwrap();
    let matrix = |data| Matrix::new(data, features).unwrap();
    let linear = Linear::new(matrix(&hidden), matrix(&weight)).unwrap();
    let into = Gradients {
        hidden: Some(MatrixMut::new(&mut to_hidden, features).unwrap()),
        weight: (!frozen).then(|| MatrixMut::new(&mut to_weight, features).unwrap()),
        bias: None,
    };
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    xent::host::on_this_thread(|| {
        criterion.linear_forward_backward(&linear, &targets, 1.0, into, workspace).unwrap();
    });
    PEAK.load(Relaxed) - before
}

/// 64 MiB, or 128 rows of logits if that is more, and 1 %.
fn bar(classes: usize) -> usize {
    let bytes = (64 << 20).max(128 * 4 * classes);
    bytes + bytes / 100
}

// One test, since every other would be counted, too.
#[test]
fn a_call_takes_a_chunk_of_logits_and_little_else() {
    for (shape, ignored, frozen) in [
        ([1024, 48, 32_000], 0, false),
        ([1500, 48, 32_000], 3, false),
        // The gradient of the weight would be as large as the chunk.
        ([512, 512, 32_000], 0, true),
        ([300, 16, 128_256], 0, false),
        ([150, 16, 262_144], 0, true),
    ] {
        let mut workspace = Workspace::default();
        let peak = peak::<f32>(shape, ignored, frozen, &mut workspace);
        assert!(peak <= bar(shape[2]), "{shape:?}: {peak} of {}", bar(shape[2]));
        assert!(workspace.bytes() <= peak && peak > bar(shape[2]) / 2, "{shape:?}: {peak}");
    }
    for shape in [[1024, 48, 32_000], [300, 512, 32_000]] {
        let peak = peak::<bf16>(shape, 3, true, &mut Workspace::default());
        assert!(peak <= bar(shape[2]), "{shape:?} in bf16: {peak} of {}", bar(shape[2]));
    }
    let mut workspace = Workspace::default();
    for expected in [64 << 20, 2 << 20] {
        let peak = peak::<f32>([1024, 16, 20_000], 0, false, &mut workspace);
        assert!(peak <= expected, "{peak} of {expected} bytes: memory is used again");
    }
}
