"""The options of a loss: names, types, defaults and meaning, stated once for all of xent's Python.

The annotation of a field holds its type, its default and its documentation. Type checkers read the
type, and :func:`documented` writes all three into the signatures and docstrings of the functions that
take the fields as keywords. The words of an option come from Rust, with their aliases.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from numbers import Real
from operator import index
from typing import Annotated, Any, Literal, Protocol, TypedDict, TypeVar, cast, get_type_hints

from xent._xent import WORDS, Criterion
from xent.errors import InvalidType, InvalidValue


class Array(Protocol):
    """An array of any framework; in :mod:`xent.torch` a tensor."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


Reduction = Literal["none", "mean", "sum"]
Indices = int | Sequence[int] | None
Integers = Sequence[int] | None


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
_SMALLEST, _LARGEST = 5e-324, sys.float_info.max
_NUMBERS = {  # the lowest and the highest that are accepted
    "label_smoothing": (0.0, 1.0, "0 ≤ ε ≤ 1"),
    "z_loss": (0.0, _LARGEST, "a finite number ≥ 0"),
    "softcap": (_SMALLEST, _LARGEST, "a finite number > 0"),
    "temperature": (_SMALLEST, _LARGEST, "a finite number > 0"),
}

IN_BATCH: Any = object()
"""In place of a prior, a denominator or an ε that is an array or a number and comes with the batch."""


def complete(**given: Any) -> Options:
    """All options, with their defaults, as plain values and canonical words.

    Raises InvalidValue or InvalidType, which say what came and what was expected.
    """
    options = dict(_DEFAULTS)
    for name, value in given.items():
        if value is IN_BATCH:
            continue
        if name in WORDS:
            options[name] = word(name, value)
        elif name in _INTEGERS:
            options[name] = None if value is None else integers(name, value)
        elif value is not None or _DEFAULTS[name] is not None:
            options[name] = in_range(name, number(name, value), *_NUMBERS[name])
    if options["exclude"] is not None and given.get("prior") is IN_BATCH:
        raise InvalidValue(
            f"exclude is {given['exclude']!r} with a prior that is an array, expected None: an array holds its own zeros"
        )
    return cast(Options, options)


_completed = lru_cache(maxsize=256, typed=True)(complete)


def completed(**given: Any) -> Options:
    """As :func:`complete`, which it calls once for each combination of options; not to be changed."""
    for name in _INTEGERS:
        # What is neither can change (a list), or equals something else (True, 1.0).
        if type(value := given.get(name)) is not int and value is not None:
            given[name] = integers(name, value)
    try:
        return _completed(**given)
    except InvalidType:
        raise
    except TypeError:  # what has no hash is no option, and is named as such
        return complete(**given)


def criterion(options: Options) -> Criterion:
    """The engine's criterion for complete options."""
    return _criterion(tuple(options.values()))


@lru_cache(maxsize=256)
def _criterion(values: tuple[Any, ...]) -> Criterion:
    return Criterion(**dict(zip(_DEFAULTS, values)))


def packed(options: Options) -> tuple[str, list[float], Integers, Integers]:
    """Complete options in the types that operators of PyTorch's may have: words, numbers, exclude and ignore_index."""
    given: dict[str, Any] = {**options}
    words = " ".join([given[name] for name in WORDS])
    return words, [given[name] or 0.0 for name in _NUMBERS], *(given[name] for name in _INTEGERS)


def unpacked(
    words: str, numbers: Sequence[float], exclude: Integers, ignore_index: Integers
) -> Options:
    """What :func:`packed` made so."""
    exclude = None if exclude is None else tuple(exclude)
    return _unpacked(words, tuple(numbers), exclude, ignore_index and tuple(ignore_index))


@lru_cache(maxsize=256)
def _unpacked(words: str, numbers: tuple[float, ...], *integers: Integers) -> Options:
    given: dict[str, Any] = dict(_DEFAULTS)
    given.update(zip(WORDS, words.split()))
    given.update(zip(_NUMBERS, numbers))
    given.update(zip(_INTEGERS, integers))
    given["softcap"] = given["softcap"] or None
    return cast(Options, given)


def word(name: str, value: object) -> str:
    """The canonical word of an option that is a word."""
    canonical = WORDS[name].get(value.replace("-", "_")) if isinstance(value, str) else None
    if canonical is None:
        words = ", ".join(repr(word) for word in dict.fromkeys(WORDS[name].values()))
        further = {"prior": " or an array", "denominator": " or a number > 0"}.get(name, "")
        error = InvalidType if further and not isinstance(value, str) else InvalidValue
        raise error(f"{name} is {shown(value)}, expected {words}{further}")
    return canonical


def number(name: str, value: object) -> float:
    """A number of Python's or numpy's as a float."""
    if type(value) is float:
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    hint = ""
    if hasattr(value, "requires_grad"):
        hint = f", as a tensor would not be differentiated{_LEARNED.get(name, '')}"
    raise InvalidType(f"{name} is {shown(value)}, expected a number{hint}")


_LEARNED = {
    "temperature": ": to learn a temperature, divide the logits by it",
    "softcap": ": to learn a softcap c, pass c * torch.tanh(logits / c)",
}


def in_range(name: str, value: float, lowest: float, highest: float, expected: str) -> float:
    """The number, if it is one of those."""
    if not lowest <= value <= highest:
        raise InvalidValue(f"{name} is {value}, expected {expected}")
    return value


def denominator(value: object) -> float:
    """A denominator that is a number."""
    return in_range(
        "denominator", number("denominator", value), _SMALLEST, _LARGEST, "a finite number > 0"
    )


def share(value: object) -> float:
    """λ, the share of the first label, if it is a number."""
    return in_range("lam", number("lam", value), 0.0, 1.0, "0 ≤ λ ≤ 1")


def integers(name: str, value: Any) -> tuple[int, ...]:
    """One integer or several, as a tuple."""
    try:
        several = isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0
        indices = tuple(_index(entry) for entry in value) if several else (_index(value),)
    except TypeError:
        raise InvalidType(f"{name} is {value!r}, expected an integer, several or None") from None
    lowest = _INTEGERS[name]
    for entry in indices:
        if not lowest <= entry < 2**63:
            raise InvalidValue(f"{name} is {entry}, expected at least {lowest} and less than 2**63")
    return indices


def integer(name: str, value: object) -> int:
    """An integer of Python's, numpy's or a tensor's."""
    try:
        return _index(value)
    except TypeError:
        raise InvalidType(f"{name} is {shown(value)}, expected an integer") from None


def _index(value: Any) -> int:
    if type(value) is int:  # under torch.compile it may be a symbol
        return value
    if isinstance(value, (bool, str)) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise TypeError
    return index(value)


def shown(value: object) -> str:
    """A value in a message: itself, if it is short, or its type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return f"of type {type(value).__name__}"


Function = TypeVar("Function", bound=Callable[..., Any])


def documented(keywords: type) -> Callable[[Function], Function]:
    """Spells out the ``**`` of a function that takes these keywords, in its signature and at ``{options}`` of its docstring."""

    def spell_out(function: Function) -> Function:
        function.__doc__ = described(function.__doc__, keywords)
        signature = inspect.signature(function)
        parameters = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        for name, field in fields(keywords).items():
            default, _ = field.__metadata__
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=field.__origin__,
                )
            )
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return spell_out


def described(doc: str | None, keywords: type) -> str:
    """A docstring with these keywords, their meaning and their defaults at ``{options}``."""
    lines = []
    for name, field in fields(keywords).items():
        default, what = field.__metadata__
        text = f"{name}: {' '.join(what.split())}." + (
            "" if default is None else f" Default: {default!r}."
        )
        lines.append(textwrap.fill(text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8))
    return inspect.cleandoc(doc or "").replace("    {options}", "\n".join(lines))


def expect_known(function: str, given: Iterable[str], keywords: type) -> None:
    """Raises InvalidType for a keyword that is none of these, as Python does for functions that name theirs."""
    for name in given:
        if name not in keywords.__annotations__:
            raise InvalidType(f"{function}() got an unexpected keyword argument {name!r}")
