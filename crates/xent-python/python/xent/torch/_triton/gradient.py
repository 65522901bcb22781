"""Sweep 2: the gradient from the coefficients of a row (S13.5).

gradient_k = A·e^(z_k − m) − C·v'_k, and at the row's classes A·e^(z − m) − B, times the softcap's slope
"""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

from xent.torch._triton.addresses import aligned, body_of, fringe
from xent.torch._triton.arithmetic import exponential
from xent.torch._triton.constants import NO_PRIOR
from xent.torch._triton.logits import reread, tile_of, weights_of


@triton.jit
def gradient_of(
    z, v, k, k0, allowed, m, a, c, b0, b1, hot0, hot1, cap,
    B: tl.constexpr, ONE_ROW: tl.constexpr, EXP: tl.constexpr, HOT: tl.constexpr, PRIOR: tl.constexpr, VECTOR: tl.constexpr,
    RENORMALISES: tl.constexpr, CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """The gradient on a tile, S13.5; with ONE_ROW on a tile of the classes k0 to k0 + B of a row."""
    of_p = a[:, None] * exponential(z - m[:, None], EXP)
    g = of_p
    if PRIOR != NO_PRIOR:
        if VECTOR:
            g -= c[:, None] * v
        else:
            g -= c[:, None]
    if ONE_ROW:
        # Most tiles hold none of the row's classes.
        if tl.sum(((hot0 >= k0) & (hot0 < k0 + B)).to(tl.int32), 0) > 0:
            g = tl.where(k[None, :] == hot0[:, None], of_p - b0[:, None], g)
        if HOT == 2:
            if tl.sum(((hot1 >= k0) & (hot1 < k0 + B)).to(tl.int32), 0) > 0:
                g = tl.where(k[None, :] == hot1[:, None], of_p - b1[:, None], g)
    else:
        g = tl.where(k[None, :] == hot0[:, None], of_p - b0[:, None], g)
        if HOT == 2:
            g = tl.where(k[None, :] == hot1[:, None], of_p - b1[:, None], g)
    if CAPS:
        share = z / cap
        g *= tl.where(z == float("-inf"), 0.0, (1.0 - share) * (1.0 + share))
    if RENORMALISES:
        # A row that is NaN is NaN there, too.
        g = tl.where((z == float("-inf")) & (a == a)[:, None], 0.0, g)
    if MASKS:
        g = tl.where(allowed, g, 0.0)
    return g


@triton.jit
def store_tile(gradient, base, stride, k, end, inside, g, MASKED: tl.constexpr):
    at = gradient + (base[:, None] + k[None, :].to(base.dtype) * stride)
    g = g.to(gradient.dtype.element_ty)
    if MASKED:
        tl.store(at, g, mask=inside[:, None] & (k[None, :] < end), eviction_policy="evict_first")
    else:
        tl.store(at, g, eviction_policy="evict_first")


@triton.jit
def written_tile(
    raw, gradient, base_g, stride_g, k, k0, end, inside, live,
    v, v_line, allowed, allowed_base, m, a, c, b0, b1, hot0, hot1, temperature, cap,
    B: tl.constexpr, MASKED: tl.constexpr, ONE_ROW: tl.constexpr, EXP: tl.constexpr, HOT: tl.constexpr,
    PRIOR: tl.constexpr, VECTOR: tl.constexpr, RENORMALISES: tl.constexpr, SCALES: tl.constexpr,
    CAPS: tl.constexpr, MASKS: tl.constexpr, ZEROS: tl.constexpr,
):  # fmt: skip
    z, is_allowed = tile_of(
        raw, k, end, live[:, None] & (k[None, :] < end), allowed, allowed_base, temperature, cap,
        SCALES, CAPS, MASKS,
    )  # fmt: skip
    v_tile = weights_of(v, v_line, k, end, MASKED, VECTOR)
    g = gradient_of(
        z, v_tile, k, k0, is_allowed, m, a, c, b0, b1, hot0, hot1, cap,
        B, ONE_ROW, EXP, HOT, PRIOR, VECTOR, RENORMALISES, CAPS, MASKS,
    )  # fmt: skip
    if ZEROS:
        g = tl.where(live[:, None], g, 0.0)
    store_tile(gradient, base_g, stride_g, k, end, inside, g, MASKED)


@triton.jit
def written(
    x, gradient, base, base_g, stride, stride_g, inside, live, K,
    v, v_line, allowed, allowed_base, m, a, c, b0, b1, hot0, hot1, temperature, cap,
    R: tl.constexpr, B: tl.constexpr, V: tl.constexpr, FRINGE: tl.constexpr, TAIL: tl.constexpr,
    EXP: tl.constexpr, HOT: tl.constexpr, PRIOR: tl.constexpr, VECTOR: tl.constexpr,
    RENORMALISES: tl.constexpr, SCALES: tl.constexpr, CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """Sweep 2: the gradient of rows, 0 where a row is not live.

    From the end to the beginning: what sweep 1 has read last is the most likely to be in the cache.
    """
    head, length = body_of(base, K, V, FRINGE)
    at = aligned(base, V, FRINGE)
    at_g = aligned(base_g, V, FRINGE)
    full = length // B * B
    allowed_at = allowed
    if MASKS:
        allowed_at = allowed + head
    v_at = v
    if VECTOR:
        v_at = v + head
    if TAIL:
        k = full + tl.arange(0, B)
        written_tile(
            reread(x, at, stride, k, length, live), gradient, at_g, stride_g, k, full, length, inside,
            live, v_at, v_line, allowed_at, allowed_base, m, a, c, b0, b1,
            hot0 - head, hot1 - head, temperature, cap, B, True, R == 1,
            EXP, HOT, PRIOR, VECTOR, RENORMALISES, SCALES, CAPS, MASKS, True,
        )  # fmt: skip
    reads = True
    if R == 1:
        reads = tl.sum(live.to(tl.int32), 0) > 0
    if reads:
        raw = reread(x, at, stride, full - B + tl.arange(0, B), full, live)
        for done in range(0, full, B):
            start = full - B - done
            before = start - B + tl.arange(0, B)
            raw_before = reread(x, at, stride, before, full, live)
            written_tile(
                raw, gradient, at_g, stride_g, start + tl.arange(0, B), start, length, inside,
                live, v_at, v_line, allowed_at, allowed_base, m, a, c, b0, b1,
                hot0 - head, hot1 - head, temperature, cap, B, R > 1, R == 1,
                EXP, HOT, PRIOR, VECTOR, RENORMALISES, SCALES, CAPS, MASKS, R > 1,
            )  # fmt: skip
            raw = raw_before
    else:
        zeros = tl.zeros([R, B], tl.float32)
        for start in range(0, full, B):
            store_tile(
                gradient, at_g, stride_g, start + tl.arange(0, B), length, inside, zeros, False
            )
    if FRINGE:
        k = fringe(head, length, K, V)
        written_tile(
            reread(x, base, stride, k, K, live), gradient, base_g, stride_g, k, 0, K, inside,
            live, v, v_line, allowed, allowed_base, m, a, c, b0, b1, hot0, hot1, temperature, cap,
            B, True, False, EXP, HOT, PRIOR, VECTOR, RENORMALISES, SCALES, CAPS, MASKS, True,
        )  # fmt: skip
