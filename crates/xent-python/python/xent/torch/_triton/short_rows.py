"""Sweep 1 of rows that share a program: R rows in tiles of B classes."""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

from xent.torch._triton.arithmetic import exponential, xlogx
from xent.torch._triton.constants import LEAVES_OUT, NO_PRIOR


@triton.jit
def added(
    m, rest, s, mass, all_mass, entropy, first,
    z, v, k, end, hot0, hot1,
    WHOLE: tl.constexpr, EXP: tl.constexpr,
    HOT: tl.constexpr, PRIOR: tl.constexpr, VECTOR: tl.constexpr, RENORMALISES: tl.constexpr,
    STATS: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """The statistics of rows with a tile added. Numbers per row are [R], tiles are [R, B].

    mass is Σ v over what s sums over, all_mass the same with masked classes, entropy Σ v ln v. Past a
    row's end, where k is at least `end`, z is −∞.
    """
    of_tile = tl.max(z, 1)
    peak = tl.maximum(m, of_tile)
    # As long as there is nothing but −∞, any reference does.
    at = tl.where(peak == float("-inf"), 0.0, peak)
    below = at[:, None] - z
    e = exponential(-below, EXP)
    is_new = of_tile > m
    up = tl.where(is_new & (m > float("-inf")), at - m, 0.0)
    largest = z == at[:, None]
    others = tl.sum(tl.where(largest, 0.0, e), 1).to(tl.float64)
    number = tl.sum(largest.to(tl.int32), 1)
    if WHOLE:
        rest = others + (number - 1)
    else:
        before = tl.where(m > float("-inf"), rest + 1.0, 0.0)
        before = before * exponential(-up, EXP).to(tl.float64)
        rest = tl.where(is_new, before + (others + (number - 1)), rest + (others + number))
    if STATS:
        here = tl.min(tl.where(largest, k[None, :], 2147483647), 1)
        first = tl.where(is_new, here, first)
    if PRIOR != NO_PRIOR:
        counts = tl.broadcast_to(k[None, :] < end, z.shape)
        if PRIOR == LEAVES_OUT:
            counts = counts & (k[None, :] != hot0[:, None])
            if HOT == 2:
                counts = counts & (k[None, :] != hot1[:, None])
        if not WHOLE:
            s += mass * up
        if VECTOR:
            v = tl.where(counts, v, 0.0)
            counts = counts & (v != 0.0)
            if RENORMALISES:
                all_mass += tl.sum(v, 1).to(tl.float64)
                counts = counts & (z != float("-inf"))
                v = tl.where(counts, v, 0.0)
            mass += tl.sum(v, 1).to(tl.float64)
            if FLOOR:
                entropy += tl.sum(xlogx(v), 1).to(tl.float64)
            s += tl.sum(tl.where(counts, v * below, 0.0), 1).to(tl.float64)
        else:
            if RENORMALISES:
                counts = counts & (z != float("-inf"))
            mass += tl.sum(counts.to(tl.int32), 1)
            s += tl.sum(tl.where(counts, below, 0.0), 1).to(tl.float64)
    return peak, rest, s, mass, all_mass, entropy, first
