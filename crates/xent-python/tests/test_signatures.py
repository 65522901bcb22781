"""Options are stated once: what signatures, docstrings, type checkers and Rust say of them is the same."""

import inspect
import pydoc
import typing

import pytest
import torch

import xent.numpy
import xent.options
import xent.torch
from xent._stats import FIELDS
from xent._xent import WORDS, Criterion
from xent.options import Options, complete, criterion, defaults, fields
from xent.torch import functional

X, Y = torch.zeros(1, 2), torch.tensor([0])
FUNCTIONS = {
    functional.cross_entropy: (X, Y),
    functional.linear_cross_entropy: (X, X, Y),
    xent.torch.CrossEntropyLoss: (),
    xent.torch.LinearCrossEntropyLoss: (2, 3),
    xent.numpy.cross_entropy: (X, Y),
    xent.numpy.cross_entropy_with_grad: (X, Y),
}
"""With what they have to be given."""


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_signatures_name_every_option(function):
    parameters = inspect.signature(function).parameters
    assert not [
        parameter for parameter in parameters.values() if parameter.kind is parameter.VAR_KEYWORD
    ]
    for name, default in defaults(Options).items():
        assert parameters[name].default == (
            -100 if name == "ignore_index" and "torch" in function.__module__ else default
        ), name
    with pytest.raises(TypeError, match="unexpected keyword argument 'z_los'"):
        function(*FUNCTIONS[function], z_los=0.0)


@pytest.mark.parametrize(
    "function",
    [*FUNCTIONS, xent.torch.CrossEntropyLoss.forward, xent.torch.LinearCrossEntropyLoss.forward],
)
def test_docstrings_tell_of_every_option(function):
    assert function.__doc__ and "{options}" not in function.__doc__
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"\n    {name}: " in function.__doc__, name
            assert f" {name}: " in pydoc.render_doc(function), name


@pytest.mark.parametrize("stats", [xent.torch.Stats, xent.numpy.Stats])
def test_help_tells_of_every_statistic(stats):
    assert set(stats._fields) == set(FIELDS)
    for name in stats._fields:
        assert f"\n    {name}: " in stats.__doc__ and getattr(stats, name).__doc__.endswith("."), (
            name
        )
    assert "correct / (rows − ignored)" in stats.accuracy.__doc__


def test_types_know_the_words_of_rust():
    for name, words in WORDS.items():
        literals = {
            word for part in typing.get_args(fields(Options)[name]) for word in _words(part)
        }
        assert set(words.values()) <= literals <= set(words), name


def _words(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        return [word for word in typing.get_args(annotation) if isinstance(word, str)]
    return [word for part in typing.get_args(annotation) for word in _words(part)]


def test_aliases_mean_the_same():
    for name, words in WORDS.items():
        for word, canonical in words.items():
            assert (
                complete(**{name: word})
                == complete(**{name: word.replace("_", "-")})
                == complete(**{name: canonical})
            )
            criterion(complete(**{name: word}))
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    by_alias, by_word = (
        functional.cross_entropy(x, y, label_smoothing=0.1, form=form, prior=prior)
        for form, prior in (("kl", "others"), ("kl_divergence", "wrong_classes"))
    )
    assert torch.equal(by_alias, by_word)


def test_defaults_are_those_of_rust():
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    assert Criterion().call(x, -1, y).scalar("loss") == criterion(complete()).call(x, -1, y).scalar(
        "loss"
    )
    with pytest.raises(TypeError, match="softcup is not an option"):
        Criterion(softcup=1.0)
