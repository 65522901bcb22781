"""Where rows lie.

Rows are in groups of L: offset = group·group_stride + row·row_stride + class·stride. So [N, K], a slice
of [B, T, K] and [B, K, H·W] are all read in place.

A row whose address is no multiple of 16 bytes (K = 50257) has a fringe: up to V − 1 classes at its
head and at its end. What is between them, its body, is loaded and stored 16 bytes at a time.
"""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def rows_of(
    program, L, group_stride, row_stride, group_stride_g, row_stride_g,
    R: tl.constexpr, V: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """The rows of a program: which exist, their numbers, their offsets in logits and gradient, that of the first."""
    tiles = tl.cdiv(L, R)
    group = (program // tiles).to(tl.int64)
    i = (program % tiles) * R + tl.arange(0, R)
    base = group * group_stride + i.to(tl.int64) * row_stride
    base_g = group * group_stride_g + i.to(tl.int64) * row_stride_g
    first = group * group_stride + ((program % tiles) * R).to(tl.int64) * row_stride
    return (
        i < L, group * L + i, aligned(base, V, ALIGNED), aligned(base_g, V, ALIGNED),
        aligned(first, V, ALIGNED),
    )  # fmt: skip


@triton.jit
def aligned(base, V: tl.constexpr, ROUNDS: tl.constexpr):
    """The next multiple of V, which the compiler is to know for one."""
    return (base + (V - 1)) // V * V if ROUNDS else base


@triton.jit
def body_of(base, K, V: tl.constexpr, FRINGE: tl.constexpr):
    """Where the part of a row begins that is loaded 16 bytes at a time, and how many classes it has."""
    if FRINGE:
        head = tl.minimum((V - tl.sum(base, 0) % V) % V, K).to(tl.int32)
        return head, (K - head) // V * V
    else:
        return 0, K


@triton.jit
def fringe(head, length, K, V: tl.constexpr):
    """The classes before and after a row's body; K in the place of those that do not exist."""
    lane = tl.arange(0, 2 * V)
    k = tl.where(lane < V, lane, head + length + lane - V)
    return tl.where((lane < V) & (lane >= head), K, k)
