"""Functions that are no instruction of Triton's, or not with the accuracy that is wanted.

The libraries of GPUs have most of them, which Triton's interpreter does not reach.
"""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950216293335)  # as f32
LOG2E_REST = tl.constexpr(1.925963033500e-08)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def power_of_2(x, FLUSHES: tl.constexpr):
    """2^x. FLUSHES: one instruction, without the four around it that are for results below 2^−126."""
    if FLUSHES:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def exponential(x, EXP: tl.constexpr):
    """e^x for x ≤ 0; NaN for NaN.

    EXP is a sum: with 1, what is lost in x·log2(e) is made up for; with 2, results below 2^−126 are 0.
    """
    if EXP % 2:
        x = tl.where(x < -150.0, -150.0, x)
        high = x * LOG2E
        low = tl.fma(x, LOG2E, -high) + x * LOG2E_REST
        return power_of_2(high, EXP // 2) * (1.0 + low * LN2)
    else:
        return power_of_2(x * LOG2E, EXP // 2)


@triton.jit
def tanh(x):
    """Within 2u of the hyperbolic tangent; the library's is not there in the interpreter."""
    e = tl.exp2(tl.abs(x) * -2.0 * LOG2E)
    far = (1.0 - e) / (1.0 + e)
    far = tl.where(x < 0.0, -far, far)
    s = x * x
    near = 0.021869488536155203 + s * -0.008863235529902197
    near = -0.053968253968253968 + s * near
    near = 0.13333333333333333 + s * near
    near = -0.33333333333333333 + s * near
    return tl.where(tl.abs(x) < 0.3, x + x * s * near, far)


@triton.jit
def log1p(x):
    """ln(1 + x) of f64, with what 1 + x has lost."""
    y = 1.0 + x
    lost = (x - (y - 1.0)).to(tl.float32) / y.to(tl.float32)
    return tl.log(y) + tl.where(x < float("inf"), lost, 0.0).to(tl.float64)


@triton.jit
def times(a, b):
    """a·b, where 0·∞ is 0."""
    return tl.where(a == 0.0, 0.0 * tl.where(b != b, b, 0.0), a * tl.where(a == 0.0, 0.0, b))


@triton.jit
def xlogx(x):
    return tl.where(x > 0.0, x * tl.log(tl.where(x > 0.0, x, 1.0)), 0.0)


@triton.jit
def in_range(x, HIGHEST: tl.constexpr):
    """NaN for what is not finite or not in [0, HIGHEST]."""
    x = x.to(tl.float64)
    return tl.where((x >= 0.0) & (x <= HIGHEST), x, float("nan"))
