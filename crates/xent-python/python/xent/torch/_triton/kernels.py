"""The kernels: loss and gradient of SEMANTICS.md S13 in one launch, and the gradient alone.

A program owns R rows of K classes:

    sweep 1   m, rest, S, … of the transformed logits      ┐ numbers per row
    fold      the loss and its parts, the coefficients     ┘
    sweep 2   the gradient

A row that fits into one tile (K ≤ B) stays in registers between the sweeps. A longer one is read
again, from the cache as long as the rows that are in flight fit there.

The largest logit is left out of rest, of which it would be all the digits. Sums are f32 over a tile and
f64 beyond, numbers per row f64. Capitals are compile-time constants, which launch.py sets.
"""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton
import triton.language as tl

from xent.torch._triton.addresses import rows_of
from xent.torch._triton.arithmetic import in_range
from xent.torch._triton.constants import IGNORED, NAN, NO_CLASS, NO_PRIOR, ZERO
from xent.torch._triton.fold import at_class, folded
from xent.torch._triton.gradient import gradient_of, store_tile, written, written_tile
from xent.torch._triton.logits import reread, tile_of, weights_of
from xent.torch._triton.long_rows import swept
from xent.torch._triton.short_rows import added


@triton.jit
def forward(
    x, gradient, parts, first_class, coefficients, hot,
    target, target_b, lam, epsilons, row_weights, ignored, weight, v, is_open, allowed, denominator, denominator_z,
    ignore_index, N, L, K,
    group_stride, row_stride, stride, group_stride_g, row_stride_g, stride_g,
    epsilon, epsilon_rest, sigma, sigma_rest, sigma_out, sigma_out_rest, z_loss, z_loss_rest, temperature, cap,
    R: tl.constexpr, B: tl.constexpr, V: tl.constexpr, ALIGNED: tl.constexpr, FRINGE: tl.constexpr,
    TAIL: tl.constexpr, WHOLE: tl.constexpr, T: tl.constexpr, EXP: tl.constexpr, HOT: tl.constexpr, PRIOR: tl.constexpr,
    VECTOR: tl.constexpr, EXCLUDES: tl.constexpr, WEIGHTS: tl.constexpr, MASKS: tl.constexpr,
    IGNORES: tl.constexpr, RENORMALISES: tl.constexpr, SCALES: tl.constexpr, CAPS: tl.constexpr,
    Z_LOSS: tl.constexpr, KL: tl.constexpr, STATS: tl.constexpr, EMPTY_IS: tl.constexpr,
):  # fmt: skip
    """Loss, parts, coefficients of the gradient, and the gradient for an upstream gradient of 1.

    N rows in groups of L. Arguments that are None are options that nobody gave, or not wanted. parts is f64 [6, N]:
    loss (without z-loss), z_loss, nll, smoothing, floor, lse, the last four with STATS; coefficients
    f32 [5, N]: m, A, C, B of either class; hot int32 [2, N]: the classes of a row.
    """
    FLOOR: tl.constexpr = KL or STATS
    BY_LINE: tl.constexpr = VECTOR == 2
    inside, row, base, base_g, first_of_row = rows_of(
        tl.program_id(0), L, group_stride, row_stride, group_stride_g, row_stride_g, R, V, ALIGNED
    )
    if ALIGNED:
        K = K // V * V
    allowed_base = row * K

    # Labels.
    label = tl.load(target + row, mask=inside, other=0).to(tl.int64)
    kept = inside
    if ignored is not None:
        kept = kept & (tl.load(ignored + row, mask=inside, other=1) == 0)
    if IGNORES:
        kept = kept & (label != ignore_index)
    known = (label >= 0) & (label < K)
    hot0 = tl.where(kept & known, label, NO_CLASS).to(tl.int32)
    hot1 = tl.full([R], NO_CLASS, tl.int32)
    share0 = tl.full([R], 1.0, tl.float64)
    share1 = tl.full([R], 0.0, tl.float64)
    if HOT == 2:
        label_b = tl.load(target_b + row, mask=inside, other=0).to(tl.int64)
        if IGNORES:
            kept = kept & (label_b != ignore_index)
            hot0 = tl.where(kept, hot0, NO_CLASS)
        known = known & (label_b >= 0) & (label_b < K)
        same = label == label_b
        share0 = in_range(tl.load(lam + row, mask=kept, other=1.0), 1.0)
        share1 = tl.where(same, 0.0, 1.0 - share0)
        share0 = tl.where(same, share0 * 0.0 + 1.0, share0)
        hot1 = tl.where(kept & known & (same == 0), label_b, NO_CLASS).to(tl.int32)
    if BY_LINE:
        v_line = tl.where(hot0 >= 0, hot0, 0).to(tl.int64) * K
    else:
        v_line = tl.full([R], 0, tl.int64)

    z0, term0, whole0, sigma0, pi0, v0, open0 = at_class(
        x, base, stride, hot0, weight, v, v_line, is_open, allowed, allowed_base,
        sigma, sigma_rest, sigma_out, sigma_out_rest, temperature, cap,
        PRIOR, VECTOR, EXCLUDES, WEIGHTS, SCALES, CAPS, MASKS,
    )  # fmt: skip
    z1, term1, whole1, sigma1, pi1, v1, open1 = z0, term0, whole0, sigma0, pi0, v0, open0
    if HOT == 2:
        z1, term1, whole1, sigma1, pi1, v1, open1 = at_class(
            x, base, stride, hot1, weight, v, v_line, is_open, allowed, allowed_base,
            sigma, sigma_rest, sigma_out, sigma_out_rest, temperature, cap,
            PRIOR, VECTOR, EXCLUDES, WEIGHTS, SCALES, CAPS, MASKS,
        )  # fmt: skip
    r = tl.full([R], 1.0, tl.float64)
    if row_weights is not None:
        r = in_range(tl.load(row_weights + row, mask=kept, other=1.0), float("inf"))
        r = tl.where(r == float("inf"), float("nan"), r)

    # Sweep 1.
    m = tl.full([R], float("-inf"), tl.float32)
    rest = tl.full([R], 0.0, tl.float64)
    s, mass, all_mass, entropy = rest, rest, rest, rest
    first = tl.full([R], 2147483647, tl.int32)
    if WHOLE:
        k = tl.arange(0, B)
        inside_tile = kept[:, None] & (k[None, :] < K)
        at = x + base[:, None] + k[None, :].to(base.dtype) * stride
        # Of rows that are not read no matter what, but no NaN.
        raw = tl.load(at, mask=inside_tile, other=0.0)
        z, is_allowed = tile_of(
            raw, k, K, inside_tile, allowed, allowed_base, temperature, cap, SCALES, CAPS, MASKS
        )
        v_tile = weights_of(v, v_line, k, K, True, VECTOR)
        m, rest, s, mass, all_mass, entropy, first = added(
            m, rest, s, mass, all_mass, entropy, first,
            z, v_tile, k, K, hot0, hot1,
            True, EXP, HOT, PRIOR, VECTOR, RENORMALISES, STATS, FLOOR,
        )  # fmt: skip
    elif R == 1:
        m, rest, s, mass, all_mass, entropy, first = swept(
            x, first_of_row, base, K, kept, allowed, allowed_base, temperature, cap, v, v_line,
            hot0, hot1, B, V, T, FRINGE, TAIL, EXP, HOT, PRIOR, VECTOR, RENORMALISES, STATS, FLOOR,
            SCALES, CAPS, MASKS,
        )  # fmt: skip
    else:
        for start in range(0, K, B):
            k = start + tl.arange(0, B)
            inside_tile = kept[:, None] & (k[None, :] < K)
            at = x + base[:, None] + k[None, :].to(base.dtype) * stride
            raw = tl.load(at, mask=inside_tile, other=0.0)
            z, is_allowed = tile_of(
                raw, k, K, inside_tile, allowed, allowed_base, temperature, cap, SCALES, CAPS, MASKS
            )
            v_tile = weights_of(v, v_line, k, K, True, VECTOR)
            m, rest, s, mass, all_mass, entropy, first = added(
                m, rest, s, mass, all_mass, entropy, first,
                z, v_tile, k, K, hot0, hot1,
                False, EXP, HOT, PRIOR, VECTOR, RENORMALISES, STATS, FLOOR,
            )  # fmt: skip

    if PRIOR == NO_PRIOR:
        epsilon64 = tl.zeros([R], tl.float64)
    elif epsilons is None:
        epsilon64 = tl.zeros([R], tl.float64) + epsilon + epsilon_rest
    else:
        epsilon64 = in_range(tl.load(epsilons + row, mask=kept, other=0.0), 1.0)
    nll, smoothing, floor, loss, lse, whole, total, gamma, y0, y1 = folded(
        m, rest, s, mass, all_mass, entropy, z0, term0, whole0, sigma0, pi0, v0, open0, share0,
        hot0, z1, term1, whole1, sigma1, pi1, v1, open1, share1, hot1, K, epsilon64,
        HOT, PRIOR, VECTOR, RENORMALISES, KL, FLOOR,
    )  # fmt: skip
    finite = (m > float("-inf")) & (m < float("inf")) & (rest == rest) & known
    r = tl.where(finite, r, float("nan"))
    one = tl.where(finite, 1.0, float("nan")).to(tl.float64)
    if EMPTY_IS == NAN and not STATS:
        # So that a division is all that is left to do. Statistics need the rows as they are.
        r = tl.where(tl.zeros([R], tl.float64) + tl.load(denominator) == 0.0, float("nan"), r)
    tl.store(parts + row, tl.where(kept, r * whole * loss, 0.0), mask=inside)
    lambda_z = tl.zeros([R], tl.float64)
    if Z_LOSS:
        lambda_z = lambda_z + z_loss + z_loss_rest
    if Z_LOSS or STATS:
        tl.store(parts + N + row, tl.where(kept, r * lambda_z * lse * lse, 0.0), mask=inside)
    if STATS:
        tl.store(parts + 2 * N + row, tl.where(kept, r * whole * nll, 0.0), mask=inside)
        tl.store(parts + 3 * N + row, tl.where(kept, r * whole * smoothing, 0.0), mask=inside)
        tl.store(parts + 4 * N + row, tl.where(kept, r * whole * floor, 0.0), mask=inside)
        tl.store(parts + 5 * N + row, tl.where(kept, one * lse, 0.0), mask=inside)
        tl.store(first_class + row, tl.where(kept & finite, first, NO_CLASS), mask=inside)

    if coefficients is not None:
        # Four roundings, of which the bar for gradients allows eight.
        live = kept
        factor = r.to(tl.float32)
        if SCALES:
            factor = factor / temperature
        of_z = 2.0 * lambda_z * lse
        if denominator is not None:
            d = tl.load(denominator)
            if denominator_z is not None:
                of_z *= d.to(tl.float64) / tl.load(denominator_z).to(tl.float64)
            divisor = tl.zeros([R], tl.float32) + d.to(tl.float32)
            if EMPTY_IS == ZERO:
                live = live & (divisor != 0.0)
            factor = tl.where(divisor == 0.0, float("nan"), factor / divisor)
        a = factor * (whole * total + of_z).to(tl.float32) / (1.0 + rest).to(tl.float32)
        c = factor * (whole * gamma).to(tl.float32)
        b0 = factor * (whole * y0).to(tl.float32)
        b1 = factor * (whole * y1).to(tl.float32)
        hot0 = tl.where(live, hot0, IGNORED)
        tl.store(coefficients + row, m, mask=inside)
        tl.store(coefficients + N + row, a, mask=inside)
        tl.store(coefficients + 2 * N + row, c, mask=inside)
        tl.store(coefficients + 3 * N + row, b0, mask=inside)
        tl.store(coefficients + 4 * N + row, b1, mask=inside)
        tl.store(hot + row, hot0, mask=inside)
        tl.store(hot + N + row, hot1, mask=inside)
        if gradient is not None:
            if WHOLE:
                g = gradient_of(
                    z, v_tile, k, 0, is_allowed, m, a, c, b0, b1, hot0, hot1, cap,
                    B, False, EXP, HOT, PRIOR, VECTOR, RENORMALISES, CAPS, MASKS,
                )  # fmt: skip
                g = tl.where(live[:, None], g, 0.0)
                store_tile(gradient, base_g, stride_g, k, K, inside, g, True)
            else:
                written(
                    x, gradient, base, base_g, stride, stride_g, inside, live, K,
                    v, v_line, allowed, allowed_base, m, a, c, b0, b1, hot0, hot1, temperature, cap,
                    R, B, V, FRINGE, TAIL, EXP, HOT, PRIOR, VECTOR, RENORMALISES, SCALES, CAPS, MASKS,
                )  # fmt: skip


@triton.jit
def backward(
    x, gradient, upstream, coefficients, hot, v, allowed,
    N, L, K,
    group_stride, row_stride, stride, group_stride_g, row_stride_g, stride_g, temperature, cap,
    R: tl.constexpr, B: tl.constexpr, V: tl.constexpr, ALIGNED: tl.constexpr, FRINGE: tl.constexpr,
    TAIL: tl.constexpr, WHOLE: tl.constexpr, T: tl.constexpr, EXP: tl.constexpr, HOT: tl.constexpr,
    PRIOR: tl.constexpr, VECTOR: tl.constexpr, MASKS: tl.constexpr, RENORMALISES: tl.constexpr,
    SCALES: tl.constexpr, CAPS: tl.constexpr, BY_ROW: tl.constexpr, IS_WRITTEN: tl.constexpr,
):  # fmt: skip
    """The gradient from a row's coefficients, times upstream: one number, or BY_ROW one per row.

    IS_WRITTEN: the gradient for 1 is there, so that nothing is done if upstream is 1.
    """
    if not BY_ROW:
        u = tl.load(upstream).to(tl.float32)
        if IS_WRITTEN:
            if u == 1.0:
                return
    classes = K // V * V if ALIGNED else K
    programs = (N // L) * tl.cdiv(L, R)
    for program in range(tl.program_id(0), programs, tl.num_programs(0)):
        inside, row, base, base_g, first_of_row = rows_of(
            program, L, group_stride, row_stride, group_stride_g, row_stride_g, R, V, ALIGNED
        )
        hot0 = tl.load(hot + row, mask=inside, other=IGNORED)
        hot1 = tl.load(hot + N + row, mask=inside, other=NO_CLASS)
        live = hot0 != IGNORED
        if BY_ROW:
            u = tl.load(upstream + row, mask=live, other=0.0).to(tl.float32)
        v_line = tl.where(hot0 >= 0, hot0, 0).to(tl.int64) * K if VECTOR == 2 else row * 0
        m = tl.load(coefficients + row, mask=live, other=0.0)
        a = u * tl.load(coefficients + N + row, mask=live, other=0.0)
        c = u * tl.load(coefficients + 2 * N + row, mask=live, other=0.0)
        b0 = u * tl.load(coefficients + 3 * N + row, mask=live, other=0.0)
        b1 = u * tl.load(coefficients + 4 * N + row, mask=live, other=0.0)
        if WHOLE:
            k = tl.arange(0, B)
            written_tile(
                reread(x, base, stride, k, classes, live), gradient, base_g, stride_g, k, 0, classes,
                inside, live, v, v_line, allowed, row * K, m, a, c, b0, b1, hot0, hot1,
                temperature, cap, B, True, False,
                EXP, HOT, PRIOR, VECTOR, RENORMALISES, SCALES, CAPS, MASKS, True,
            )  # fmt: skip
        else:
            written(
                x, gradient, base, base_g, stride, stride_g, inside, live, classes,
                v, v_line, allowed, row * K, m, a, c, b0, b1, hot0, hot1, temperature, cap,
                R, B, V, FRINGE, TAIL, EXP, HOT, PRIOR, VECTOR, RENORMALISES, SCALES, CAPS, MASKS,
            )  # fmt: skip
