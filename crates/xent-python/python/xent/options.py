"""The options of a loss: names, types, defaults and meaning, stated once for all of xent's Python.

The annotation of a field holds its type, its default and its documentation. Type checkers read the
type, and :func:`documented` writes all three into the signatures and docstrings of the functions that
take the fields as keywords. The words of an option come from Rust, with their aliases.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import index
from typing import Annotated, Any, Literal, Protocol, TypedDict, TypeVar, cast, get_type_hints

from xent._xent import WORDS, Criterion


class Array(Protocol):
    """An array of any framework; in :mod:`xent.torch` a tensor."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


Reduction = Literal["none", "mean", "sum"]
Indices = int | Sequence[int] | None


class Basic(TypedDict, total=False):
    """The options that PyTorch's loss has, too."""

    reduction: Annotated[
        Reduction, "mean", '"mean", "sum" or "none", which returns one loss per row'
    ]
    label_smoothing: Annotated[float | Array, 0.0, "ε in [0, 1], or an array with one per row"]
    ignore_index: Annotated[
        Indices,
        None,
        """class indices whose rows are ignored: loss 0, gradient exactly 0, never read, and not in the
        denominator""",
    ]


class Additional(TypedDict, total=False):
    """The options that PyTorch's loss does not have."""

    prior: Annotated[
        Literal["uniform", "wrong_classes"] | Array,
        "uniform",
        """where smoothing puts its mass: "uniform" (ε/K on all classes); "wrong_classes" (ε/(K−1) on
        all except the true class); an array [K] that sums to 1; or [K, K], one row per true class""",
    ]
    exclude: Annotated[
        Indices,
        None,
        """classes, such as padding, that smoothing gives no mass: the prior is spread evenly over all
        classes except these and the true class, whichever word prior is; an error with a prior that
        is an array, which holds its own zeros""",
    ]
    weighting: Annotated[
        Literal["per_class", "per_row"],
        "per_class",
        """"per_class" multiplies each class's term by its weight, as PyTorch does; "per_row" the whole
        row by the weight of its true class, so that weights do not change the smoothing""",
    ]
    masked: Annotated[
        Literal["pytorch", "renormalise", "renormalize"],
        "pytorch",
        """masked classes have logit −∞: with "pytorch" any mass on them makes the loss +∞; with
        "renormalise" smoothing spreads over the other classes and the loss stays finite""",
    ]
    denominator: Annotated[
        Literal["pytorch", "kept_rows", "rows"] | float | Array,
        "pytorch",
        """what a mean divides by: "pytorch" (the kept rows' class weights, or their number); "kept_rows";
        "rows" (ignored ones too); or a number > 0. For gradient accumulation give each micro-batch the
        number that the whole batch has: of kept rows or, with class weights, the sum of
        ``weight[target]`` over them""",
    ]
    empty_mean: Annotated[
        Literal["nan", "zero", "error"],
        "nan",
        'what the mean over no rows is: "nan", "zero" or an "error"',
    ]
    form: Annotated[
        Literal["cross_entropy", "kl_divergence", "kl"],
        "cross_entropy",
        '"kl_divergence" (or "kl") subtracts the entropy of the target, so that the lowest loss is 0',
    ]
    z_loss: Annotated[
        float,
        0.0,
        """λ of λ·lse², which is added to each row. Class weights do not enter it, so the default mean
        averages it over the kept rows; a denominator that is given divides it like the rest""",
    ]
    softcap: Annotated[float | None, None, "c of z ← c·tanh(z / c)"]
    temperature: Annotated[float, 1.0, "T of z ← z / T, which comes before the softcap"]


class Options(Basic, Additional, total=False):
    """What is measured, whatever the batch."""


def fields(keywords: type) -> dict[str, Any]:
    """The annotations of a TypedDict whose fields are documented as :class:`Options` is."""
    return get_type_hints(keywords, include_extras=True)


def defaults(keywords: type) -> dict[str, Any]:
    """The default of each field."""
    return {name: field.__metadata__[0] for name, field in fields(keywords).items()}


_DEFAULTS = defaults(Options)
_INTEGERS = {"exclude": 0, "ignore_index": -(2**63)}  # and the lowest that is accepted


def complete(**given: Any) -> Options:
    """All options, with their defaults, as plain values and canonical words.

    A prior that is an array and a denominator that is a number come with a batch: the default stands for them.
    """
    if given.get("exclude") is not None and not isinstance(given.get("prior", "uniform"), str):
        raise ValueError(
            f"exclude is {given['exclude']!r} with a prior that is an array, expected None: an array holds its own zeros"
        )
    options = dict(_DEFAULTS)
    for name, value in given.items():
        if name in ("prior", "denominator") and not isinstance(value, str):
            continue
        if name in WORDS:
            word = value.replace("-", "_") if isinstance(value, str) else value
            if word not in WORDS[name]:
                words = ", ".join(repr(word) for word in dict.fromkeys(WORDS[name].values()))
                raise ValueError(f"{name} is {value!r}, expected {words}")
            options[name] = WORDS[name][word]
        elif name in _INTEGERS:
            options[name] = None if value is None else integers(name, value, _INTEGERS[name])
        else:
            options[name] = None if value is None and _DEFAULTS[name] is None else float(value)
    return cast(Options, options)


def check(options: Options, traced: bool) -> None:
    """ValueError for a number outside its range."""
    if not traced:
        criterion(options)
        return
    # torch.compile cannot follow into Rust. It runs again uncompiled what raises, so that the caller
    # sees Rust's message.
    numbers: dict[str, Any] = {
        name: value
        for name, value in options.items()
        if name not in WORDS and name not in _INTEGERS and value is not None
    }
    ranges = all(0.0 <= number < float("inf") for number in numbers.values())
    positive = numbers["temperature"] > 0.0 and numbers.get("softcap") != 0.0
    if not (ranges and positive and numbers["label_smoothing"] <= 1.0):
        raise ValueError(f"an option is outside its range, expected finite numbers ≥ 0: {numbers}")


def criterion(options: Options) -> Criterion:
    """The checked criterion. ValueError names the option, what came and what was expected."""
    return _criterion(tuple(options.values()))


@lru_cache(maxsize=256)
def _criterion(values: tuple[Any, ...]) -> Criterion:
    return Criterion(**dict(zip(_DEFAULTS, values)))


def integers(name: str, value: int | Iterable[int], lowest: int) -> tuple[int, ...]:
    """One integer or several, as a tuple."""
    try:
        indices = (
            tuple(index(entry) for entry in value)
            if isinstance(value, Iterable)
            else (index(value),)
        )
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer, several or None") from None
    for entry in indices:
        if not lowest <= entry < 2**63:
            raise ValueError(f"{name} is {entry}, expected at least {lowest} and less than 2**63")
    return indices


Function = TypeVar("Function", bound=Callable[..., Any])


def documented(keywords: type) -> Callable[[Function], Function]:
    """Spells out the ``**`` of a function that takes these keywords, in its signature and at ``{options}`` of its docstring."""

    def spell_out(function: Function) -> Function:
        signature = inspect.signature(function)
        parameters = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        lines = []
        for name, field in fields(keywords).items():
            default, what = field.__metadata__
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=field.__origin__,
                )
            )
            text = f"{name}: {' '.join(what.split())}." + (
                "" if default is None else f" Default: {default!r}."
            )
            lines.append(
                textwrap.fill(text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
            )
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(
            "    {options}", "\n".join(lines)
        )
        return function

    return spell_out


def expect_known(function: str, given: Iterable[str], keywords: type) -> None:
    """Raises TypeError for a keyword that is none of these, as Python does for functions that name theirs."""
    for name in given:
        if name not in keywords.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
