"""Compile-time constants of the kernels."""

# Triton's language has Python's syntax, and not its types.
# mypy: ignore-errors

import triton.language as tl

# Where smoothing puts its mass: UNIFORM and FIXED on v, LEAVES_OUT on the part of v outside of the row's
# own classes, BY_CLASS on the line of v that belongs to the label.
NO_PRIOR = tl.constexpr(0)
UNIFORM = tl.constexpr(1)
LEAVES_OUT = tl.constexpr(2)
FIXED = tl.constexpr(3)
BY_CLASS = tl.constexpr(4)

# Class weights: on the terms of their class, on whole rows.
PER_CLASS = tl.constexpr(1)
PER_ROW = tl.constexpr(2)

# What the mean over nothing is.
NAN = tl.constexpr(1)
ZERO = tl.constexpr(2)

# In the place of a class: a row that is not read, and a second class that is none.
IGNORED = tl.constexpr(-2)
NO_CLASS = tl.constexpr(-1)
