"""Exceptions for arguments that cannot be used: what came, and what was expected.

Each is the exception that Python has for the mistake, and a RuntimeError, too: PyTorch raises most of
them as RuntimeError, and code that catches those goes on working.

>>> import torch
>>> from xent.torch.functional import cross_entropy
>>> try:
...     cross_entropy(torch.zeros(1, 2), torch.tensor([0]), label_smoothing=1.5)
... except RuntimeError as error:
...     print(error)
label_smoothing is 1.5, expected 0 ≤ ε ≤ 1
"""

__all__ = ["InvalidIndex", "InvalidType", "InvalidValue"]


class InvalidValue(ValueError, RuntimeError):
    """A number outside its range, an unknown word, a shape or a device that does not fit."""


class InvalidType(TypeError, RuntimeError):
    """A type or dtype that the argument cannot have."""


class InvalidIndex(IndexError, RuntimeError):
    """A class that the logits do not have."""
