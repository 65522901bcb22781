"""The fields of ``Stats``, stated once for :mod:`xent.torch` and :mod:`xent.numpy`."""

import inspect
import textwrap
from collections.abc import Callable
from typing import TypeVar

FIELDS = {
    "nll": """what the loss would be with ε = 0 and without z-loss, reduced as the loss is: it compares
        between runs with different ε; class weights and row weights are included""",
    "smoothing": "ε times the cross-entropy to the prior, reduced as the loss is",
    "z_loss": "λ·lse², reduced as the loss is",
    "floor": """the lowest value that the cross-entropy can reach, reduced as the loss is: the entropy
        of the smoothed target""",
    "lse": "ln Σ e^z, one per row; 0 for ignored rows",
    "correct": """the number of kept rows whose largest logit (the first on ties) is the target's
        largest class""",
    "denominator": "what a mean divides by, whatever the reduction",
    "ignored": "the number of rows that were ignored",
    "non_finite": "the number of kept rows whose loss is NaN or infinite",
    "first_non_finite": "the first of them, counted over rows in C order; {none} if there is none",
    "predicted": """the class with the largest logit (the first on ties), one per row; −1 for ignored
        rows and where the logits of a row are NaN or +∞ or all masked""",
    "correct_rows": "whether the row is one of ``correct``, one per row",
}

Class = TypeVar("Class", bound=type)


def describe(none: str) -> Callable[[Class], Class]:
    """Writes the fields into the docstring of a named tuple, and into their own; ``none`` stands for no row."""

    def write(stats: Class) -> Class:
        lines = []
        for name, what in FIELDS.items():
            what = " ".join(what.format(none=none).split())
            getattr(stats, name).__doc__ = f"{what[0].upper()}{what[1:]}."
            lines.append(
                textwrap.fill(
                    f"{name}: {what}.", 100, initial_indent=" " * 4, subsequent_indent=" " * 8
                )
            )
        doc = inspect.cleandoc(stats.__doc__ or "")
        stats.__doc__ = doc.replace("    {fields}", "\n".join(lines))
        return stats

    return write
