"""Logits as they are loaded and transformed (S1), in tiles: [R, B], or [C, T, V] of one long row."""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

from xent.torch._triton.arithmetic import tanh


@triton.jit
def transformed(raw, temperature, cap, SCALES: tl.constexpr, CAPS: tl.constexpr):
    """S1 but for masks: z / T, then cap·tanh(z / cap); −∞ stays −∞."""
    z = raw.to(tl.float32)
    if SCALES:
        z = z / temperature
    if CAPS:
        z = tl.where(z == float("-inf"), z, cap * tanh(z / cap))
    return z


@triton.jit
def tile_of(
    raw, k, end, inside, allowed, allowed_base, temperature, cap,
    SCALES: tl.constexpr, CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """Transformed logits [R, B] from what was loaded, and which of them are allowed; −∞ past a row's end."""
    z = transformed(raw, temperature, cap, SCALES, CAPS)
    is_allowed = inside
    if MASKS:
        if MASKS == 1:
            is_allowed = tl.load(allowed + k, mask=k < end, other=0)[None, :] != 0
        else:
            is_allowed = (
                tl.load(allowed + allowed_base[:, None] + k[None, :], mask=inside, other=0) != 0
            )
        z = tl.where(is_allowed, z, float("-inf"))
    return tl.where(k[None, :] < end, z, float("-inf")), is_allowed


@triton.jit
def weights_of(v, line, k, end, MASKED: tl.constexpr, VECTOR: tl.constexpr):
    """v on a tile: [1, B] if rows share it, [R, B] if each has its line."""
    if VECTOR == 0:
        return 0.0
    else:
        at = v + k[None, :]
        if VECTOR == 2:
            at += line[:, None]
        if MASKED:
            return tl.load(at, mask=k[None, :] < end, other=0.0).to(tl.float32)
        else:
            return tl.load(at).to(tl.float32)


@triton.jit
def lanes_of(
    raw, inside, k, allowed, temperature, cap,
    SCALES: tl.constexpr, CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """Transformed logits [C, T, V] of one row from what was loaded: −∞ past its end."""
    z = transformed(raw, temperature, cap, SCALES, CAPS)
    if MASKS:
        z = tl.where(tl.load(allowed + k, mask=inside, other=0) != 0, z, float("-inf"))
    return z


@triton.jit
def loaded(x, inside):
    """Logits to be read again, −∞ where there are none."""
    return tl.load(x, mask=inside, other=float("-inf"))


@triton.jit
def reread(x, base, stride, k, end, live):
    """Logits [R, B] for the last time; nothing where k is not from 0 to end."""
    at = x + (base[:, None] + k[None, :].to(base.dtype) * stride)
    return tl.load(
        at,
        mask=live[:, None] & (k >= 0)[None, :] & (k < end)[None, :],
        other=0.0,
        eviction_policy="evict_first",
    )
