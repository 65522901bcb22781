"""Sweep 1 of a row that has a program for itself.

The row is read in tiles [C, T, V]: T lanes, which are the program's threads, V classes side by side
that one load brings, C such loads. Each lane has its own running maximum and sums, so that no thread
waits for another before the end of the row, and the next tile is on its way while one is summed.

    lane t:   m_t      of_peak_t: Σ e^(z − m_t) over the tile where m_t was found
                       others_t:  the same over the lane's other tiles
    row:      m = max m_t      rest = Σ_t (others_t + of_peak_t)·e^(m_t − m) − 1

Where the −1 would cost digits, because the largest logit makes up most of the sum, the lanes that hold
it read that tile once more and leave the largest logit out.
"""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

from xent.torch._triton.addresses import aligned, body_of
from xent.torch._triton.arithmetic import exponential, xlogx
from xent.torch._triton.constants import LEAVES_OUT, NO_PRIOR
from xent.torch._triton.logits import lanes_of, loaded


@triton.jit
def lanes_added(
    m, others, of_peak, origin, s, mass, all_mass, entropy,
    raw, k, end, allowed, temperature, cap, v, hot0, hot1, start, k0, n,
    MASKED: tl.constexpr, EXP: tl.constexpr, HOT: tl.constexpr, PRIOR: tl.constexpr,
    VECTOR: tl.constexpr, RENORMALISES: tl.constexpr, FLOOR: tl.constexpr,
    SCALES: tl.constexpr, CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """The statistics of each lane of a row, with a tile [C, T, V] added: [T].

    A lane has its own m, so that nothing is exchanged before the end of the row. `others` leaves out
    the tile `origin` in which m was found first, whose sum is of_peak.
    """
    inside = k < end if MASKED else tl.full(k.shape, True, tl.int1)
    z = lanes_of(raw, inside, k, allowed, temperature, cap, SCALES, CAPS, MASKS)
    of_tile = tl.max(tl.max(z, 2), 0)
    peak = tl.maximum(m, of_tile)
    # As long as there is nothing but −∞, any reference does.
    at = tl.where(peak == float("-inf"), 0.0, peak)
    below = at[None, :, None] - z
    is_new = of_tile > m
    sum_of_tile = tl.sum(tl.sum(exponential(-below, EXP), 2), 0)
    scale = exponential(tl.where(is_new, m - at, 0.0), EXP)
    others = tl.where(is_new, (others + of_peak) * scale, others + sum_of_tile)
    of_peak = tl.where(is_new, sum_of_tile, of_peak)
    origin = tl.where(is_new, start, origin)
    if PRIOR != NO_PRIOR:
        s += mass * tl.where(is_new & (m > float("-inf")), at - m, 0.0)
        if VECTOR:
            if MASKED:
                of_v = tl.load(v + k, mask=inside, other=0.0).to(tl.float32)
            else:
                of_v = tl.load(v + k).to(tl.float32)
        else:
            of_v = tl.where(inside, 1.0, 0.0)
        if PRIOR == LEAVES_OUT:
            # Most tiles hold none of the row's classes.
            if tl.sum(((hot0 >= k0) & (hot0 < k0 + n)).to(tl.int32), 0) > 0:
                is_hot = k == tl.sum(hot0, 0)
                below = tl.where(is_hot, 0.0, below)
                of_v = tl.where(is_hot, 0.0, of_v)
            if HOT == 2:
                if tl.sum(((hot1 >= k0) & (hot1 < k0 + n)).to(tl.int32), 0) > 0:
                    is_hot = k == tl.sum(hot1, 0)
                    below = tl.where(is_hot, 0.0, below)
                    of_v = tl.where(is_hot, 0.0, of_v)
        if RENORMALISES:
            all_mass += tl.sum(tl.sum(of_v, 2), 0)
            of_v = tl.where(z == float("-inf"), 0.0, of_v)
        if VECTOR or RENORMALISES or MASKED:
            below = tl.where(of_v == 0.0, 0.0, of_v * below)
        if FLOOR and VECTOR:
            entropy += tl.sum(tl.sum(xlogx(of_v), 2), 0)
        mass += tl.sum(tl.sum(of_v, 2), 0)
        s += tl.sum(tl.sum(below, 2), 0)
    return peak, others, of_peak, origin, s, mass, all_mass, entropy


@triton.jit
def swept(
    x, first_of_row, base, K, kept, allowed, allowed_base, temperature, cap, v, v_line, hot0, hot1,
    B: tl.constexpr, V: tl.constexpr, T: tl.constexpr, FRINGE: tl.constexpr, TAIL: tl.constexpr,
    EXP: tl.constexpr, HOT: tl.constexpr, PRIOR: tl.constexpr, VECTOR: tl.constexpr,
    RENORMALISES: tl.constexpr, STATS: tl.constexpr, FLOOR: tl.constexpr, SCALES: tl.constexpr,
    CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """Sweep 1 of a row of many tiles, whose classes lie side by side; nothing is read if it is not kept.

    T lanes, which are the threads, each read V classes at a time and sum on their own. At the end they
    are merged, and the tile of the largest logit is read once more if it makes up most of the sum.
    """
    head, length = body_of(base, K, V, FRINGE)
    at = aligned(first_of_row, V, FRINGE)
    full = length // B * B
    if MASKS == 2:
        allowed += tl.sum(allowed_base, 0)
    if VECTOR == 2:
        v += tl.sum(v_line, 0)
    allowed_at = allowed
    if MASKS:
        allowed_at = allowed + head
    v_at = v
    if VECTOR:
        v_at = v + head
    C: tl.constexpr = B // (T * V)
    lane = (tl.arange(0, T) * V)[None, :, None] + tl.arange(0, V)[None, None, :]
    k_tile = lane + (tl.arange(0, C) * (T * V))[:, None, None]
    k_fringe = tl.where(lane < V, lane, head + length + lane - V)
    k_fringe = tl.where((lane >= 2 * V) | ((lane < V) & (lane >= head)), K, k_fringe)

    reads = tl.sum(kept.to(tl.int32), 0)
    m = tl.full([T], float("-inf"), tl.float32)
    others = tl.zeros([T], tl.float32)
    of_peak, s, mass, all_mass, entropy = others, others, others, others, others
    origin = tl.full([T], 0, tl.int32)
    if FRINGE:
        m, others, of_peak, origin, s, mass, all_mass, entropy = lanes_added(
            m, others, of_peak, origin, s, mass, all_mass, entropy,
            loaded(x + first_of_row + k_fringe, k_fringe < K * reads), k_fringe, K * reads,
            allowed, temperature, cap, v, hot0, hot1, -1, 0, K,
            True, EXP, HOT, PRIOR, VECTOR, RENORMALISES, FLOOR, SCALES, CAPS, MASKS,
        )  # fmt: skip
    end = full * reads
    raw = loaded(x + at + k_tile, k_tile < end)
    for start in range(0, end, B):
        following = start + B + k_tile
        raw_of_following = loaded(x + at + following, following < end)
        m, others, of_peak, origin, s, mass, all_mass, entropy = lanes_added(
            m, others, of_peak, origin, s, mass, all_mass, entropy,
            raw, start + k_tile, length, allowed_at, temperature, cap, v_at, hot0 - head, hot1 - head,
            start, start, B,
            False, EXP, HOT, PRIOR, VECTOR, RENORMALISES, FLOOR, SCALES, CAPS, MASKS,
        )  # fmt: skip
        raw = raw_of_following
    if TAIL:
        k = full + k_tile
        m, others, of_peak, origin, s, mass, all_mass, entropy = lanes_added(
            m, others, of_peak, origin, s, mass, all_mass, entropy,
            loaded(x + at + k, k < length * reads), k, length * reads, allowed_at, temperature, cap, v_at,
            hot0 - head, hot1 - head, full, full, B,
            True, EXP, HOT, PRIOR, VECTOR, RENORMALISES, FLOOR, SCALES, CAPS, MASKS,
        )  # fmt: skip

    peak = tl.max(m, 0)
    down = exponential(tl.where(m == float("-inf"), -150.0, m - peak), EXP)
    has_peak = m == peak
    rest = tl.sum((others * down).to(tl.float64), 0)
    rest_of_peak = tl.sum((of_peak * down).to(tl.float64), 0) - 1.0
    first = 2147483647
    if STATS or rest + rest_of_peak < 1.0:
        k = (origin // V * V)[None, :, None] + k_tile
        again = (k < length * reads) & (has_peak & (origin >= 0))[None, :, None]
        z = lanes_of(
            loaded(x + at + k, again), again, k, allowed_at, temperature, cap, SCALES, CAPS, MASKS
        )
        largest = z == peak
        e = tl.sum(tl.sum(tl.where(largest, 0.0, exponential(z - peak, EXP)), 2), 0)
        number = tl.sum(tl.sum(largest.to(tl.int32), 2), 0)
        first = tl.min(tl.min(tl.min(tl.where(largest, k + head, 2147483647), 2), 1), 0)
        if FRINGE:
            in_fringe = (k_fringe < K * reads) & (origin < 0)[None, :, None]
            z_fringe = lanes_of(
                loaded(x + first_of_row + k_fringe, in_fringe), in_fringe, k_fringe,
                allowed, temperature, cap, SCALES, CAPS, MASKS,
            )  # fmt: skip
            is_largest = z_fringe == peak
            of_fringe = tl.where(is_largest, 0.0, exponential(z_fringe - peak, EXP))
            e = tl.where(origin < 0, tl.sum(tl.sum(of_fringe, 2), 0), e)
            number += tl.sum(tl.sum(is_largest.to(tl.int32), 2), 0)
            of_row = tl.min(tl.min(tl.min(tl.where(is_largest, k_fringe, 2147483647), 2), 1), 0)
            first = tl.minimum(first, of_row)
        e = tl.where(has_peak, e, of_peak * down)
        rest_of_peak = tl.sum(e.to(tl.float64), 0) + (tl.sum(number, 0) - 1)
    up = tl.where(m == float("-inf"), 0.0, peak - m)
    s = tl.sum(s.to(tl.float64) + tl.where(mass == 0.0, 0.0, mass * up).to(tl.float64), 0)
    row = tl.zeros([1], tl.float64)
    return (
        row.to(tl.float32) + peak, row + (rest + rest_of_peak), row + s,
        row + tl.sum(mass.to(tl.float64), 0), row + tl.sum(all_mass.to(tl.float64), 0),
        row + tl.sum(entropy.to(tl.float64), 0), row.to(tl.int32) + first,
    )  # fmt: skip
