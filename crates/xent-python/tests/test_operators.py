"""The engine under torch.compile and torch.export: all options, and nothing computed or copied twice."""

import shutil
import weakref

import pytest
import torch
from torch.testing import assert_close

from cases import FLOATS, xent_case
from xent import options as xent_options
from xent.errors import InvalidIndex, InvalidValue
from xent.torch import Stats, _autograd, _memory, _operators, _triton
from xent.torch.functional import cross_entropy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = [
    "eager",
    "aot_eager",
    pytest.param(
        "inductor",
        marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
    ),
]
X = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y, Y_B = torch.tensor([0, 4, -100, 2, 1, 3]), torch.tensor([1, 1, 2, 3, 0, 4])
ROWS = torch.tensor([0.5, 1.0, 0.25, 0.0, 1.0, 0.75])
MASK = torch.tensor([True, True, True, True, False])
PRIOR = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0])
NEGATIVE = {"weight": -PRIOR}
OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"label_smoothing": ROWS},
    {"label_smoothing": 0.1, "prior": "wrong_classes"},
    {"label_smoothing": 0.1, "exclude": [0, 2]},
    {"label_smoothing": 0.1, "exclude": []},
    {"label_smoothing": 0.1, "prior": PRIOR},
    {"label_smoothing": 0.1, "prior": PRIOR.expand(5, 5)},
    {"target_b": Y_B, "lam": 0.3},
    {"target_b": Y_B, "lam": ROWS, "weight": PRIOR},
    {"label_smoothing": 0.1, "weight": PRIOR},
    {"label_smoothing": 0.1, "weight": PRIOR, "weighting": "per_row"},
    NEGATIVE,
    {"row_weight": ROWS, "reduction": "sum"},
    {"ignored_rows": ROWS > 0.5, "ignore_index": None, "target": Y.clamp(min=0)},
    {"ignore_index": [-100, 3], "reduction": "none"},
    {"allowed_classes": MASK, "label_smoothing": 0.1, "masked": "renormalise", "target": Y_B % 4},
    {"softcap": 2.0, "temperature": 0.5},
    {"z_loss": 0.01, "form": "kl", "label_smoothing": 0.1},
    {"denominator": 7},
    {"denominator": "rows"},
    {"target": torch.full((6,), -100), "empty_mean": "zero"},
    {"target": X.softmax(1).float(), "reduction": "none", "label_smoothing": 0.1},
]


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **options)


def call(options, **more):
    """A loss as a function of logits and target, and the target."""
    keywords = {**options, **more}
    return (lambda x, y: cross_entropy(x, y, **keywords)), keywords.pop("target", Y)


def assert_same(ours, theirs, x, y):
    """Loss, statistics and gradient, for an upstream gradient other than 1."""
    x = x.detach().requires_grad_()
    (loss, stats), (expected, expected_stats) = ours(x, y), theirs(x, y)
    assert_close((loss, *stats), (expected, *expected_stats), equal_nan=True)
    assert not any(part.requires_grad for part in stats)
    upstream = torch.full_like(loss, 0.7)
    gradients = [torch.autograd.grad(loss, x, upstream)[0] for loss in (loss, expected)]
    assert_close(*gradients, equal_nan=True)
    assert gradients[0].stride() == gradients[1].stride()


@pytest.fixture
def calls(monkeypatch):
    """How often the engine was called so far."""
    calls, run = [], _autograd.run
    monkeypatch.setattr(_autograd, "run", lambda *call: (calls.append(call), run(*call))[1])
    return calls


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(backend, options):
    function, y = call(options, return_stats=True)
    assert_same(compiled(function, backend=backend), function, X, y)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_of_any_shape(options):
    """Numbers and indices may be symbols there; shapes are."""
    function, y = call(options, return_stats=True)
    dynamic = compiled(function, backend="aot_eager", dynamic=True)
    assert_same(dynamic, function, X, y)
    if not any(isinstance(value, torch.Tensor) for value in options.values()):
        assert_same(dynamic, function, X[:4], y[:4])


@pytest.mark.parametrize("block", range(4))
def test_random_configurations(block):
    for seed in range(block * 10, block * 10 + 10):
        case = xent_case(seed, FLOATS[seed % 4])
        options = {**case.options, "return_stats": True}
        function = lambda x, y: cross_entropy(x, y, **options)  # noqa: E731
        assert_same(compiled(function, backend="aot_eager"), function, case.input, case.target)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_is_computed_with_the_loss_and_not_copied(backend, calls):
    x = X.float().requires_grad_()
    loss = compiled(lambda x: cross_entropy(x, Y, label_smoothing=0.1), backend=backend)(x)
    [kept] = _operators._gradients.values()
    assert len(calls) == 1
    [first] = torch.autograd.grad(loss, x, retain_graph=True)
    assert len(calls) == 1 and len(_operators._gradients) == 0
    assert first.data_ptr() == kept.data_ptr()
    del kept
    [second] = torch.autograd.grad(loss, x)  # it is computed again
    assert len(calls) == 2
    assert_close(first, second)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_nobody_asks_for_is_released(backend):
    function = compiled(lambda x: cross_entropy(x, Y), backend=backend)
    loss = function(X.clone().requires_grad_())
    assert len(_operators._gradients) == 1
    del loss
    assert len(_operators._gradients) == 0
    with torch.no_grad():
        function(X.clone().requires_grad_())
    function(X)
    assert len(_operators._gradients) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_of_gradients_is_used_again(backend, monkeypatch):
    monkeypatch.setattr(_memory, "_LARGE", 0)
    monkeypatch.setattr(_memory, "_kept", [])
    function = compiled(lambda x: cross_entropy(x, Y), backend=backend)
    x = X.clone().requires_grad_()
    function(x).backward()
    first = weakref.ref(_memory._kept[0])
    for _ in range(2):
        x.grad = None
        function(x).backward()
        assert _memory._kept[0] is first()
    kept = x.grad
    x.grad = None
    function(x).backward()
    assert _memory._kept[0] is not first() and kept.data_ptr() != x.grad.data_ptr()


def test_steps_that_overlap():
    """Each loss has its gradient, whatever is called in between."""
    function = compiled(lambda x: cross_entropy(x, Y), backend="aot_eager")
    inputs = [(X * scale).requires_grad_() for scale in (1, 2, 3)]
    losses = [function(x) for x in inputs]
    for place in (1, 2, 0):
        [gradient] = torch.autograd.grad(losses[place], inputs[place])
        x = inputs[place].detach().requires_grad_()
        assert_close(gradient, torch.autograd.grad(cross_entropy(x, Y), x)[0])


def test_checkpoints(calls):
    """What is thrown away and computed again has a token of its own."""
    from torch.utils.checkpoint import checkpoint

    def function(x):
        return checkpoint(lambda x: cross_entropy(x.sin(), Y), x, use_reentrant=False)

    x = X.clone().requires_grad_()
    gradients = [
        torch.autograd.grad(f(x), x) for f in (function, compiled(function, backend="aot_eager"))
    ]
    assert_close(*gradients)
    assert len(_operators._gradients) == 0


def test_second_derivatives():
    x = X.clone().requires_grad_()
    expected = torch.autograd.functional.hessian(lambda x: cross_entropy(x, Y), x)
    function = compiled(lambda x: cross_entropy(x, Y), backend="eager")
    assert_close(torch.autograd.functional.hessian(function, x), expected)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "prior": PRIOR}], ids=str)
def test_export(strict, options, tmp_path):
    class Loss(torch.nn.Module):
        def forward(self, x, y):
            return cross_entropy(x, y, **options)

    torch._dynamo.reset()
    rows = torch.export.Dim("rows")
    program = torch.export.export(
        Loss(), (X, Y), strict=strict, dynamic_shapes={"x": {0: rows}, "y": {0: rows}}
    )
    targets = [node.target for node in program.graph.nodes]
    assert torch.ops.xent.cross_entropy.default in targets
    torch.export.save(program, tmp_path / "loss.pt2")
    loaded = torch.export.load(tmp_path / "loss.pt2").module()
    for x, y in ((X, Y), (X[:3], Y[:3])):
        assert_close(loaded(x, y), cross_entropy(x, y, **options))


@pytest.mark.parametrize("options", [*OPTIONS[:5], *OPTIONS[8:10], OPTIONS[-1]], ids=str)
@pytest.mark.parametrize("want_stats", [False, True])
def test_operators_keep_pytorchs_rules(options, want_stats):
    function, y = call(options, return_stats=want_stats)
    with recorded() as calls:
        result = function(X.clone().requires_grad_(), y)
        (result[0] if want_stats else result).sum().backward()
    assert list(calls) == ["cross_entropy", "cross_entropy_backward"]
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.xent, name).default, arguments)


class recorded(torch.utils._python_dispatch.TorchDispatchMode):
    """The arguments of xent's operators, which are called here as traced code calls them."""

    def __enter__(self):
        self.arguments = {}
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(_operators, "applies", lambda *_: True)
        super().__enter__()
        return self.arguments

    def __exit__(self, *error):
        self.patch.undo()
        return super().__exit__(*error)

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        if operator.namespace == "xent":
            self.arguments[operator._opname] = tuple(
                argument.detach().requires_grad_(
                    name == "logits" and operator._opname == "cross_entropy"
                )
                if isinstance(argument, torch.Tensor)
                else argument
                for argument, name in zip(
                    arguments, [given.name for given in operator._schema.arguments]
                )
            )
        return operator(*arguments, **(keywords or {}))


@pytest.fixture
def kernels(monkeypatch):
    """Calls of the Triton kernels so far: what is compiled goes through them, on a GPU or in the interpreter."""
    pytest.importorskip("triton", reason="SKIPPED: the Triton kernels: triton is not installed")
    calls = []
    for name in ("computed", "formed"):
        original = getattr(_triton, name)
        monkeypatch.setattr(
            _triton, name, lambda *call, f=original, name=name: calls.append(name) or f(*call)
        )
    if DEVICE == "cpu":
        monkeypatch.setattr(_triton.coverage, "DEVICES", ("cpu",))
    return calls


def there(value):
    return value.to(DEVICE) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [each for each in OPTIONS if each is not NEGATIVE], ids=str)
def test_options_of_kernels(backend, options, kernels):
    function, y = call({name: there(value) for name, value in options.items()}, return_stats=True)
    covered = options.get("weight") is None or "masked" not in options
    covered &= not y.is_floating_point()
    assert_same(compiled(function, backend=backend), function, there(X.float()), there(y))
    assert kernels == (["computed", "formed"] if covered else [])


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_kernels_keep_pytorchs_rules(options, kernels):
    function, y = call({name: there(value) for name, value in options.items()})
    y = y.clamp(
        min=0
    )  # of ignored rows the coefficients are NaN, which opcheck takes for different
    with recorded() as calls:
        function(there(X.float()).requires_grad_(), there(y)).sum().backward()
    assert list(calls) == ["cross_entropy", "cross_entropy_backward"]
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.xent, name).default, arguments)


@pytest.mark.skipif(DEVICE == "cpu", reason="SKIPPED: CUDA graphs: no GPU")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cuda_graphs(reduction, kernels):
    """They run kernels again, and nothing of Python."""
    function = lambda x, y: cross_entropy(x, y, label_smoothing=0.1, reduction=reduction)  # noqa: E731
    graphed = compiled(function, mode="reduce-overhead")
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = torch.randn(64, 1000, device=DEVICE), torch.randint(1000, (64,), device=DEVICE)
        gradients = []
        for each in (graphed, function):
            leaf = x.clone().requires_grad_()
            loss = each(leaf, y)
            loss.sum().backward()
            gradients.append((loss.detach().clone(), leaf.grad.clone()))
        assert_close(*gradients)


def test_errors_are_the_engines():
    function = compiled(lambda x, y: cross_entropy(x, y), backend="aot_eager")
    with pytest.raises(InvalidIndex, match="row 1"):
        function(X[:2], torch.tensor([0, 5]))
    function = compiled(lambda x, y: cross_entropy(x, y, empty_mean="error"), backend="aot_eager")
    with pytest.raises(InvalidValue, match="denominator"):
        function(X[:2], torch.tensor([-100, -100]))


def test_what_the_engine_has_not_is_composed(monkeypatch):
    monkeypatch.setattr(_operators, "cross_entropy", None)
    compiled(lambda x: torch.func.grad(lambda x: cross_entropy(x, Y))(x), backend="eager")(X)
    compiled(lambda x: torch.func.vmap(cross_entropy)(x[None], Y[None]), backend="eager")(X)
    weight = torch.rand(5, dtype=torch.float64, requires_grad=True)
    loss = compiled(lambda x, w: cross_entropy(x, Y, w), backend="aot_eager")(X, weight)
    loss.backward()
    assert weight.grad is not None


def test_all_options_are_packed():
    case = xent_options.complete(
        reduction="sum",
        label_smoothing=0.1,
        ignore_index=[3, 4],
        prior="wrong_classes",
        exclude=[1, 2],
        weighting="per_row",
        masked="renormalise",
        denominator="rows",
        empty_mean="zero",
        form="kl",
        z_loss=0.2,
        softcap=3.0,
        temperature=2.0,
    )
    for options in (case, xent_options.complete()):
        assert xent_options.unpacked(*xent_options.packed(options)) == options


def test_statistics_have_the_shapes_that_graphs_expect():
    for seed in range(50):
        case = xent_case(seed, FLOATS[seed % 4])
        with recorded() as arguments:
            _, stats = cross_entropy(case.input, case.target, **case.options, return_stats=True)
        _, _, expected = _operators._fake_forward(*arguments["cross_entropy"])
        assert [(part.shape, part.dtype) for part in stats] == [
            (part.shape, part.dtype) for part in Stats(*expected)
        ]
