"""What a row's labels contribute, and the fold of both with the statistics (S13.1, S13.2, S13.4, S13.6)."""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

from xent.torch._triton.arithmetic import log1p, times, xlogx
from xent.torch._triton.constants import LEAVES_OUT, NO_PRIOR, PER_CLASS, UNIFORM
from xent.torch._triton.logits import transformed


@triton.jit
def at_class(
    x, base, stride, hot, weight, v, v_line, is_open, allowed, allowed_base,
    sigma, sigma_rest, sigma_out, sigma_out_rest, temperature, cap,
    PRIOR: tl.constexpr, VECTOR: tl.constexpr, EXCLUDES: tl.constexpr, WEIGHTS: tl.constexpr,
    SCALES: tl.constexpr, CAPS: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """z of one of a row's classes and, in f64, S13.1's term, whole, σ, π, v' and [c ∉ E]."""
    named = hot >= 0
    k = tl.where(named, hot, 0).to(tl.int64)
    raw = tl.load(x + base + k * stride, mask=named, other=0.0)
    z = transformed(raw, temperature, cap, SCALES, CAPS)
    if MASKS:
        here = k if MASKS == 1 else allowed_base + k
        z = tl.where(tl.load(allowed + here, mask=named, other=1) != 0, z, float("-inf"))
    one = tl.full(hot.shape, 1.0, tl.float64)
    term, whole = one, one
    if WEIGHTS:
        w = tl.load(weight + k, mask=named, other=0.0).to(tl.float64)
        if WEIGHTS == PER_CLASS:
            term = w
        else:
            whole = w
    share_of_v, pi, counts = one, tl.zeros(hot.shape, tl.float64), one
    if (PRIOR == UNIFORM) or (PRIOR == LEAVES_OUT):
        share_of_v = share_of_v * 0.0 + sigma + sigma_rest
    if PRIOR == LEAVES_OUT:
        if EXCLUDES:
            counts = tl.load(is_open + k, mask=named, other=0.0).to(tl.float64)
            outside = tl.zeros(hot.shape, tl.float64) + sigma_out + sigma_out_rest
            share_of_v = tl.where(counts != 0.0, share_of_v, outside)
        pi = tl.where(share_of_v == 0.0, one, 0.0)
    of_v = one
    if VECTOR:
        of_v = tl.load(v + v_line + k, mask=named, other=0.0).to(tl.float64)
    return z, term, whole, share_of_v, pi, of_v, counts


@triton.jit
def folded(
    m, rest, s, mass, all_mass, entropy, z0, term0, whole0, sigma0, pi0, v0, open0, share0,
    hot0, z1, term1, whole1, sigma1, pi1, v1, open1, share1, hot1, K, epsilon,
    HOT: tl.constexpr, PRIOR: tl.constexpr, VECTOR: tl.constexpr, RENORMALISES: tl.constexpr,
    KL: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """S13.2 to S13.6 of rows, before the row weight: numbers per row, f64.

    nll, smoothing, floor, the loss without z-loss, lse; W, Y, γ, and what the smoothed target has on
    either class: y.
    """
    below0 = (m - z0).to(tl.float64)
    is_masked0 = z0 == float("-inf")
    hard0 = share0 * term0
    zero = tl.zeros(m.shape, tl.float64)
    hard1, own0, own1 = zero, zero, zero
    whole = share0 * whole0
    share_of_v = share0 * sigma0
    below1, is_masked1 = below0, is_masked0
    if HOT == 2:
        below1 = (m - z1).to(tl.float64)
        is_masked1 = z1 == float("-inf")
        hard1 = share1 * term1
        whole += share1 * whole1
        share_of_v += share1 * sigma1
        if PRIOR == LEAVES_OUT:
            own1 = ((share_of_v - share1 * sigma1) * open1 + share1 * pi1) * term1
            own1 = tl.where(hot1 >= 0, own1, 0.0)
    if PRIOR == LEAVES_OUT:
        own0 = ((share_of_v - share0 * sigma0) * open0 + share0 * pi0) * term0
    # With VECTOR the sweep has summed v; all of its ones need no sum.
    if (VECTOR == 0) and (PRIOR != NO_PRIOR):
        all_mass = zero + K
        if PRIOR == LEAVES_OUT:
            all_mass -= (hot0 >= 0).to(tl.int32) + (hot1 >= 0).to(tl.int32)
        if not RENORMALISES:
            mass = all_mass
    if RENORMALISES and PRIOR != NO_PRIOR:
        before = share_of_v * all_mass + own0 + own1
        own0 = tl.where(is_masked0, 0.0, own0)
        own1 = tl.where(is_masked1, 0.0, own1)
        after = share_of_v * mass + own0 + own1
        nothing = (after > 0.0) == 0
        scale = before / tl.where(nothing, 1.0, after)
        share_of_v = tl.where(nothing, 0.0, share_of_v * scale)
        own0 = tl.where(nothing, hard0, own0 * scale)
        own1 = tl.where(nothing, hard1, own1 * scale)
    log_rest = log1p(rest)
    lse = m.to(tl.float64) + log_rest
    hard = hard0 + hard1
    prior_mass = share_of_v * mass + own0 + own1
    nll = hard * log_rest + times(hard0, below0)
    smoothing = prior_mass * log_rest + times(share_of_v, s) + times(own0, below0)
    if HOT == 2:
        nll += times(hard1, below1)
        smoothing += times(own1, below1)
    smoothing = times(epsilon, smoothing)
    loss = times(1.0 - epsilon, nll) + smoothing
    total = (1.0 - epsilon) * hard + epsilon * prior_mass
    gamma = epsilon * share_of_v
    beta0 = (1.0 - epsilon) * hard0 + epsilon * own0
    beta1 = (1.0 - epsilon) * hard1 + epsilon * own1
    # What is subtracted at a class that v does not leave out.
    y0, y1 = beta0, beta1
    if (PRIOR != NO_PRIOR) and (PRIOR != LEAVES_OUT):
        of_v0 = tl.where(is_masked0, 0.0, v0) if RENORMALISES else v0
        of_v1 = tl.where(is_masked1, 0.0, v1) if RENORMALISES else v1
        y0 += gamma * of_v0
        y1 += gamma * of_v1
    floor = zero
    if FLOOR:
        floor = xlogx(total) - xlogx(y0) - gamma * entropy
        of_v = mass
        if HOT == 2:
            floor -= tl.where(hot1 >= 0, xlogx(y1), 0.0)
        if (PRIOR != NO_PRIOR) and (PRIOR != LEAVES_OUT):
            # Σ h(γ·v) over v without the row's classes.
            of_v -= of_v0
            floor += gamma * xlogx(of_v0)
            if HOT == 2:
                of_v -= tl.where(hot1 >= 0, of_v1, 0.0)
                floor += tl.where(hot1 >= 0, gamma * xlogx(of_v1), 0.0)
        floor -= xlogx(gamma) * of_v
        if KL:
            loss -= floor
    return nll, smoothing, floor, loss, lse, whole, total, gamma, y0, y1
