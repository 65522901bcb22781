"""xent against PyTorch's own loss: on the inputs of PyTorch's own tests, and on random ones."""

import itertools
import random
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import xent.torch
from cases import FLOATS, pytorch_case
from xent.torch.functional import cross_entropy

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the first import calls torch.jit.script
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

[MODULE] = [info for info in module_db if info.module_cls is torch.nn.CrossEntropyLoss]
[OPERATION] = [info for info in op_db if info.name == "nn.functional.cross_entropy"]


def module_inputs():
    torch.manual_seed(0)
    samples = MODULE.module_inputs_func(
        MODULE, device="cpu", dtype=torch.float64, requires_grad=True, training=True
    )
    return [pytest.param(sample, id=sample.desc) for sample in samples]


@pytest.mark.parametrize("sample", module_inputs())
def test_module_inputs(sample):
    construct = sample.constructor_input
    arguments = [
        arg.detach().requires_grad_(arg.requires_grad) for arg in sample.forward_input.args
    ]
    ours = xent.torch.CrossEntropyLoss(*construct.args, **construct.kwargs)
    theirs = torch.nn.CrossEntropyLoss(*construct.args, **construct.kwargs)
    loss, expected = ours(*arguments), theirs(*arguments)
    assert_close(loss, expected, equal_nan=True)  # all rows may be ignored
    assert_close(loss, sample.reference_fn(ours, *arguments), equal_nan=True)
    upstream = torch.randn_like(loss)
    differentiable = [argument for argument in arguments if argument.requires_grad]
    assert_close(
        torch.autograd.grad(loss, differentiable, upstream),
        torch.autograd.grad(expected, differentiable, upstream),
        equal_nan=True,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_operation_samples(dtype):
    torch.manual_seed(0)
    samples = list(OPERATION.sample_inputs("cpu", dtype, requires_grad=True))
    assert len(samples) > 20
    for sample in samples:
        arguments = (sample.input, *sample.args)
        loss = cross_entropy(*arguments, **sample.kwargs)
        # In halves PyTorch rounds log-probabilities, so that it is judged by itself in float64.
        exact = [_double(argument) for argument in arguments]
        expected = F.cross_entropy(
            *exact, **{name: _double(value) for name, value in sample.kwargs.items()}
        )
        assert loss.dtype == dtype
        assert_close(loss, expected.to(dtype))
        upstream = torch.randn_like(loss)
        gradients = torch.autograd.grad(
            loss, [argument for argument in arguments if argument.requires_grad], upstream
        )
        expected_gradients = torch.autograd.grad(
            expected, [argument for argument in exact if argument.requires_grad], upstream.double()
        )
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            assert_close(gradient, expected_gradient.to(dtype))
        if dtype is torch.float64:
            assert torch.autograd.gradcheck(
                lambda *args: cross_entropy(*args, **sample.kwargs),
                arguments,
                check_forward_ad=True,
            )
            assert torch.autograd.gradgradcheck(
                lambda *args: cross_entropy(*args, **sample.kwargs), arguments
            )


def _double(value):
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value.detach().double().requires_grad_(value.requires_grad)


def test_errors_of_module_inputs():
    samples = MODULE.module_error_inputs_func(
        MODULE, device="cpu", dtype=torch.float64, requires_grad=False, training=True
    )
    for sample in samples:
        construct, call = (
            sample.module_error_input.constructor_input,
            sample.module_error_input.forward_input,
        )
        with pytest.raises((ValueError, TypeError, IndexError)):
            xent.torch.CrossEntropyLoss(*construct.args, **construct.kwargs)(
                *call.args, **call.kwargs
            )


# Of float32 and halves what xent has to be is a few units of what it computes in, and of the gradient's type; the rest is the argument's own rounding.
TOLERANCES = {
    torch.float64: (1e-12, 1e-14),
    torch.float32: (1e-5, 1e-6),
    torch.float16: (2e-3, 1e-6),
    torch.bfloat16: (1e-2, 1e-6),
}


@pytest.mark.parametrize("block", range(20))
def test_random_configurations(block):
    """2,000 of them, a quarter in each dtype, against PyTorch in float64 on the same numbers."""
    for seed in range(block * 100, block * 100 + 100):
        dtype = FLOATS[seed % 4]
        case = pytorch_case(seed, dtype)
        rtol, atol = TOLERANCES[dtype]
        ours, theirs = case.leaf(), case.leaf(torch.float64)
        loss = cross_entropy(ours, case.target, **case.options)
        options = {name: _double(value) for name, value in case.options.items()}
        expected = F.cross_entropy(theirs, _double(case.target), **options)
        assert loss.dtype == dtype and loss.shape == expected.shape
        draw = random.Random(seed)
        upstream = (
            torch.ones_like(loss)
            if draw.random() < 0.3
            else torch.randn_like(loss) * draw.choice([1.0, 64.0])
        )
        [gradient] = torch.autograd.grad(loss, ours, upstream)
        [expected_gradient] = torch.autograd.grad(expected, theirs, upstream.double())
        assert gradient.dtype == dtype
        scale = upstream.abs().max().clamp(min=1).item() if upstream.numel() else 1.0
        if options.get("weight") is not None:
            scale *= options["weight"].max().clamp(min=1).item()
        where = lambda message: f"{case}\n{message}"  # noqa: E731
        assert_close(
            loss.double(),
            expected.to(dtype).double(),
            rtol=rtol,
            atol=atol * 100,
            equal_nan=True,
            msg=where,
        )
        assert_close(
            gradient.double(),
            expected_gradient.to(dtype).double(),
            rtol=rtol,
            atol=atol * scale,
            equal_nan=True,
            msg=where,
        )


@pytest.mark.parametrize("autocast", [False, True])
def test_mixtures_of_dtypes(autocast, road):
    """Probabilities and class weights promote the loss, so that a sum of halves does not overflow."""
    for logits, probabilities, weights in itertools.product(FLOATS, FLOATS, (None, *FLOATS)):
        for reduction, epsilon in (("mean", 0.0), ("sum", 0.1), ("none", 0.1)):
            x, target = (
                torch.randn(3, 5).to(logits).requires_grad_(),
                torch.rand(3, 5).to(probabilities),
            )
            weight = None if weights is None else torch.rand(5).to(weights)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                ours, theirs = (
                    loss(x, target, weight, reduction=reduction, label_smoothing=epsilon)
                    for loss in (cross_entropy, F.cross_entropy)
                )
            assert ours.dtype == theirs.dtype
            assert_close(ours, theirs, rtol=2e-2, atol=1e-2)
            assert torch.autograd.grad(ours.sum(), x)[0].dtype == logits


def test_sums_of_halves_with_wide_probabilities_are_finite():
    x, target = torch.zeros(20000, 3, dtype=torch.float16), torch.full((20000, 3), 2.0)
    ours = cross_entropy(x, target, reduction="sum")
    assert ours.dtype == torch.float32
    assert_close(ours, 120000 * torch.tensor(3.0).log())
    assert cross_entropy(x, target.half(), reduction="sum").isinf()
