"""xent.metrics: batches, parts and engines do not change a bit; bad input changes nothing.

Against the program itself: set XENT to a built `xent`, or build target/debug/xent.
"""

import copy
import functools
import itertools
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from pages import ROOT
from xent.errors import InvalidIndex, InvalidType, InvalidValue
from xent.metrics import Evaluation

EXAMPLES = ROOT / "crates/xent-python/examples"
N, K = 3000, 7


@functools.cache
def data(dtype="float32"):
    generator = np.random.default_rng(3)
    logits = 2 * generator.normal(size=(N, K))
    labels = generator.integers(K, size=N)
    logits[np.arange(N), labels] += 1.5
    labels[::50] = -100
    return logits.astype(dtype), labels


def evaluated(logits, labels, size=None, **options):
    evaluation = Evaluation(K, ignore_index=-100, **options)
    for start in range(0, len(labels), size or len(labels)):
        rows = slice(start, start + (size or len(labels)))
        evaluation.update(logits[rows], labels[rows])
    return evaluation


@functools.cache
def whole():
    return evaluated(*data())


def program():
    named = os.environ.get("XENT")
    built = [named] if named else [ROOT / "target/debug/xent", ROOT / "target/release/xent"]
    return next((str(path) for path in built if shutil.which(path)), None)


@pytest.fixture
def xent(tmp_path):
    path = program()
    if path is None:
        pytest.skip("no xent: set XENT to it, or build target/debug/xent")

    def run(*arguments):
        run = subprocess.run([path, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    return run


def test_numbers_are_those_of_the_definitions():
    logits, labels = data("float64")
    kept = labels != -100
    z, y = logits[kept], labels[kept]
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    right, confidence = z.argmax(1) == y, p.max(1)
    hot = np.eye(K)[y]
    bins = np.ceil(confidence * 15).astype(int) - 1
    ece = sum(abs((right - confidence)[bins == b].sum()) for b in range(15)) / len(y)
    top5 = (np.argsort(-z, 1)[:, :5] == y[:, None]).any(1).mean()
    expected = {
        "accuracy": right.mean(),
        "top5": top5,
        "nll": -np.log(p[np.arange(len(y)), y]).mean(),
        "brier": ((p - hot) ** 2).sum(1).mean(),
        "ece": ece,
    }
    evaluation = evaluated(logits, labels)
    computed = evaluation.compute()
    for name, value in expected.items():
        assert computed[name] == pytest.approx(value, rel=1e-12), name
    assert computed["temperature"] == evaluation.scores()["temperature"]["value"] > 0
    assert (evaluation.rows, evaluation.sources) == (kept.sum(), {"": N})
    assert evaluation.scores()["ignored"] == N - kept.sum()
    assert repr(evaluation) == f"Evaluation(classes={K}, rows={kept.sum()})"


@pytest.mark.parametrize("size, threads", [(97, 1), (1023, 2), (4000, 5), (6000, None)])
def test_neither_batches_nor_threads_matter(size, threads):
    logits, labels = data()
    # Enough for several threads.
    logits, labels = np.tile(logits, (5, 4)), np.tile(labels, 5)
    one = Evaluation(4 * K, ignore_index=-100)
    one.update(logits, labels, threads=threads)
    other = Evaluation(4 * K, ignore_index=-100)
    rows = range(0, len(labels), size)
    for start, end in zip(rows, [*rows[1:], len(labels)]):
        other.update(logits[start:end], labels[start:end])
    assert one.to_bytes() == other.to_bytes()


def test_parts_merge_in_any_order():
    logits, labels = data()
    cuts = sorted(random.Random(1).sample(range(1, N), 15))
    parts = []
    for start, end in zip([0, *cuts], [*cuts, N]):
        part = Evaluation(K, ignore_index=-100)
        part.update(logits[start:end], labels[start:end], first_row=start)
        parts.append(pickle.dumps(part))
    for seed in range(3):
        random.Random(seed).shuffle(parts)
        merged, *rest = map(pickle.loads, parts)
        for part in rest:
            merged.merge(part)
        assert merged.to_bytes() == whole().to_bytes()
    assert merged.scores() == whole().scores()


def test_a_sample_does_not_depend_on_the_parts():
    logits, labels = data()
    one = evaluated(logits, labels, sample_logits=700)
    assert one.to_bytes() == evaluated(logits, labels, 100, sample_logits=700).to_bytes()
    assert one.scores()["temperature"]["rows"] == 100


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_arrays_of_any_kind(dtype):
    logits, labels = data("float64")
    tensor = torch.tensor(logits).to(getattr(torch, dtype))
    wide = torch.float64 if dtype == "float64" else torch.float32
    expected = evaluated(tensor.to(wide).numpy(), labels).to_bytes()
    assert evaluated(tensor.requires_grad_(), torch.tensor(labels)).to_bytes() == expected
    tensor = tensor.detach()
    images = tensor.reshape(30, 100, K).movedim(-1, 1)  # [N, K, d]
    evaluation = Evaluation(K, ignore_index=-100)
    evaluation.update(images, labels.reshape(30, 100), class_axis=1)
    assert evaluation.to_bytes() == expected
    evaluation.reset()
    assert evaluation.rows == 0
    if dtype == "bfloat16":
        import ml_dtypes

        array = tensor.float().numpy().astype(ml_dtypes.bfloat16)
    else:
        array = tensor.numpy()
    evaluation.update(array[::-1][::-1], labels.astype(np.int16))
    assert evaluation.to_bytes() == expected
    if dtype == "float64":
        evaluation.reset()
        evaluation.update(tensor.tolist(), labels.tolist())
        assert evaluation.to_bytes() == expected


@pytest.mark.parametrize(
    "options",
    [
        {"bins": 20},
        {"compat": "torchmetrics"},
        {"compat": "netcal"},
        {"temperature": 2.0},
        {"skip_non_finite": True},
        {"sample_logits": 70},
    ],
    ids=str,
)
def test_every_option_has_an_effect_and_is_kept(options):
    logits, labels = data()
    logits = logits.copy()
    if "skip_non_finite" in options:
        logits[5, 2] = np.nan
    if "compat" in options:
        # Confidences on edges of bins: one half, and one.
        logits[:1000] = [0, 0, *[-np.inf] * 5]
        logits[1000:1300] = [0, *[-np.inf] * 6]
        logits[1300:1600] = [np.log(2), np.log(3), *[-np.inf] * 5]
        options = {**options, "bins": 10}
    evaluation = evaluated(logits, labels, **options)
    again = pickle.loads(pickle.dumps(evaluation))
    assert again.scores() == evaluation.scores()
    if "skip_non_finite" in options:
        assert (evaluation.scores()["not_finite"], evaluation.rows) == (1, whole().rows - 1)
    else:
        usual = evaluated(logits, labels, **({"bins": 10} if "compat" in options else {}))
        assert evaluation.scores() != usual.scores()
    with pytest.raises(InvalidValue, match=r"their settings differ: the .* of the other is"):
        Evaluation(K, ignore_index=-100).merge(evaluation)


def test_infinite_numbers_are_numbers():
    evaluation = Evaluation(2)
    evaluation.update(np.array([[0.0, -np.inf]]), [1], source="NaN")
    scores = evaluation.scores()
    assert scores["raw"]["nll"]["value"] == float("inf") == evaluation.compute()["nll"]
    assert scores["raw"]["mistakes"][0]["source"] == "NaN"


def nan_row():
    logits = data()[0].copy()
    logits[2901, 3] = np.nan
    return logits


BAD = {
    "label": (InvalidIndex, "row 2 has the label 7, expected a class from 0 to 6"),
    "negative": (InvalidIndex, "the label -1, .* ignore_index=-1 leaves such rows out"),
    "large": (InvalidIndex, "labels has 18446744073709551615, expected classes"),
    "nan": (InvalidValue, "row 2901, class 3: the logit is NaN.* skip_non_finite=True"),
    "small nan": (InvalidValue, "row 2, class 1: the logit is inf.* skip_non_finite=True"),
    "masked": (InvalidValue, "row 0, class 0: the logit is -inf"),
    "classes": (InvalidValue, r"logits has shape \[3, 6\] with 6 classes.* expected 7 classes"),
    "rows": (InvalidValue, r"labels has shape \[2\]"),
    "axes": (InvalidValue, "axis"),
    "axis": (InvalidValue, "axis"),
    "logits": (InvalidType, "logits has dtype int64, expected float16"),
    "labels": (InvalidType, "labels has dtype float64, expected an integer dtype"),
    "bools": (InvalidType, "labels has dtype bool, expected an integer dtype"),
    "first": (InvalidValue, "first_row is 18446744073709551615"),
    "negative first": (InvalidValue, "first_row is -1"),
    "threads": (InvalidValue, "threads is 0, expected at least 1"),
    "text": (InvalidType, "logits has dtype"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_change_nothing(name):
    x, y = data()[0][:3], np.array([0, 1, 2])
    infinite = x.copy()
    infinite[2, 1] = np.inf
    logits, labels, keywords = {
        "label": (x, [0, 1, 7], {}),
        "negative": (x, [0, -1, 1], {}),
        "large": (x, np.array([0, 1, 2**64 - 1], np.uint64), {}),
        "nan": (np.tile(nan_row(), (8, 1)), np.tile(data()[1], 8), {}),
        "small nan": (infinite, y, {}),
        "masked": (np.full((1, 7), -np.inf), [0], {}),
        "classes": (x[:, :6], y, {}),
        "rows": (x, y[:2], {}),
        "axes": (np.float32(1), y, {}),
        "axis": (x, y, {"class_axis": 2}),
        "logits": (x.astype(np.int64), y, {}),
        "labels": (x, y.astype(np.float64), {}),
        "bools": (x, y > 0, {}),
        "first": (x, y, {"first_row": 2**64 - 1}),
        "negative first": (x, y, {"first_row": -1}),
        "threads": (x, y, {"threads": 0}),
        "text": (np.array(["a"]), y, {}),
    }[name]
    evaluation = evaluated(*data())
    before = evaluation.to_bytes()
    error, message = BAD[name]
    with pytest.raises(error, match=message):
        evaluation.update(logits, labels, **{"first_row": 0, **keywords})
    assert evaluation.to_bytes() == before


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"classes": 1}, InvalidValue, "1 classes, expected at least 2 and at most 16777216"),
        ({"classes": 1 << 40}, InvalidValue, "1099511627776 classes, expected"),
        ({"classes": -3}, InvalidValue, "classes is -3"),
        ({"classes": 2.5}, InvalidType, "classes is 2.5, expected an integer"),
        ({"bins": 0}, InvalidValue, "bins is 0, expected 1 to 1000"),
        ({"temperature": 0.0}, InvalidValue, "temperature is 0, expected a finite number > 0"),
        ({"temperature": float("nan")}, InvalidValue, "temperature"),
        ({"compat": "sklearn"}, InvalidValue, 'compat is "sklearn", expected None, \'torchm'),
        ({"sample_logits": 0}, InvalidValue, "sampled logits is 0, expected at least 1"),
        ({"ignore_index": 1.5}, InvalidType, "ignore_index is 1.5"),
        ({"ignore_index": 2**63}, InvalidValue, "ignore_index is"),
    ],
    ids=str,
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        Evaluation(**{"classes": 3, **options})


def test_bad_merges():
    part = copy.deepcopy(whole())
    with pytest.raises(InvalidValue, match="number of classes of the other is 8, expected 7"):
        part.merge(Evaluation(8))
    with pytest.raises(InvalidValue, match="expected each once"):
        part.merge(whole())
    with pytest.raises(InvalidValue, match="merged with itself"):
        part.merge(part)
    with pytest.raises(InvalidType, match="other is of type dict"):
        part.merge({})
    assert part.to_bytes() == whole().to_bytes()
    with pytest.raises(InvalidValue, match="no rows to evaluate"):
        Evaluation(3).compute()


def test_damaged_bytes():
    data = whole().to_bytes()
    newer = data.replace(b"xent evaluation 3", b"xent evaluation 4").replace(b"tallies", b"other")
    for damaged, message in {
        b"": "not an evaluation that xent wrote, or damaged",
        data[:-10]: "not an evaluation that xent wrote, or damaged",
        data[100:]: "not an evaluation that xent wrote, or damaged",
        newer: "its format is 'xent evaluation 4', expected 'xent evaluation 3'",
        data.replace(b'"classes":7', b'"classes":9', 1): "contradict|damaged",
    }.items():
        with pytest.raises(InvalidValue, match=message):
            Evaluation.from_bytes(damaged)
    for other in ("text", 5, None):
        with pytest.raises(InvalidType, match="data is of type .*, expected bytes"):
            Evaluation.from_bytes(other)
    assert Evaluation.from_bytes(bytearray(data)).to_bytes() == data
    # Whatever a byte becomes, nothing panics.
    generator = random.Random(5)
    for _ in range(200):
        at = generator.randrange(len(data))
        damaged = data[:at] + bytes([generator.randrange(256)]) + data[at + 1 :]
        try:
            Evaluation.from_bytes(damaged)
        except InvalidValue as error:
            assert "internal error" not in str(error), at


def test_threads_share_an_evaluation():
    logits, labels = data()
    shared = Evaluation(K, ignore_index=-100)

    def work(start):
        for first in range(start, N, 400):
            rows = slice(first, first + 100)
            shared.update(logits[rows], labels[rows], first_row=first)
            assert shared.rows > 0

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.to_bytes() == whole().to_bytes()


INTERRUPTED = """
import _thread, threading, numpy as np
from xent.metrics import Evaluation
evaluation = Evaluation(100)
logits, labels = np.zeros((2_000_000, 100), np.float16), np.zeros(2_000_000, np.int64)
threading.Timer(0.3, _thread.interrupt_main).start()
try:
    evaluation.update(logits, labels)
except KeyboardInterrupt:
    assert evaluation.rows == 0 and not evaluation.sources
    print("interrupted")
"""


def test_ctrl_c_ends_an_update_and_torch_is_not_imported():
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert run.stdout == "interrupted\n", run.stderr
    code = "import sys, xent.metrics; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_processes_compute():
    expected = whole().compute()
    child = os.fork()
    if child == 0:
        os._exit(0 if whole().compute() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_numbers_and_files_of_the_program(xent, tmp_path):
    logits, labels = data()
    for part, rows in enumerate(itertools.pairwise([0, 701, 702, N])):
        np.save(tmp_path / f"z{part}.npy", logits[slice(*rows)])
        np.save(tmp_path / f"y{part}.npy", labels[slice(*rows)])
    files = [f"z{part}.npy" for part in range(3)]
    targets = [f"y{part}.npy" for part in range(3)]
    ignored = "--ignore-index=-100"
    text = xent("eval", "--logits", *files, "--targets", *targets, ignored, "--json")
    (expected,) = json.loads(text)["models"]
    parts = []
    for file, target in zip(files, targets):
        part = Evaluation(K, ignore_index=-100)
        part.update(np.load(tmp_path / file), np.load(tmp_path / target), source=file)
        parts.append(part)
        # The same file as the program's, but for the model's name.
        xent("eval", "--logits", file, "--targets", target, ignored, "--partial", f"{file}.json")
        written = Evaluation.load(tmp_path / f"{file}.json")
        assert written.to_bytes() == part.to_bytes()
        part.save(tmp_path / f"{file}.of-python.json")
    mixed = ["z2.npy.json", "z0.npy.of-python.json", "z1.npy.json"]
    (merged,) = json.loads(xent("eval", "--merge", *mixed, "--json"))["models"]
    whole = parts[2]
    whole.merge(parts[0])
    whole.merge(parts[1])
    scores = whole.scores()
    assert scores == {name: expected[name] for name in scores}
    assert scores == {name: merged[name] for name in scores}
    with pytest.raises(InvalidValue, match="z0.npy: not an evaluation"):
        Evaluation.load(tmp_path / "z0.npy")


def test_two_models_in_a_file(xent, tmp_path):
    logits, labels = data()
    np.save(tmp_path / "a.npy", logits)
    np.save(tmp_path / "b.npy", 2 * logits)
    np.save(tmp_path / "y.npy", labels)
    models = ("--logits", "a.npy", "--compare", "b.npy", "--targets", "y.npy", "--names", "one,two")
    xent("eval", *models, "--ignore-index=-100", "--partial", "both.json")
    with pytest.raises(InvalidValue, match='the models .*"one", "two".* expected the name of one'):
        Evaluation.load(tmp_path / "both.json")
    with pytest.raises(InvalidValue, match='no model "three", expected one of .*"one", "two"'):
        Evaluation.load(tmp_path / "both.json", name="three")
    two = Evaluation.load(tmp_path / "both.json", name="two")
    assert two.compute() == evaluated(2 * logits, labels).compute()


def test_torch_distributed():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import evaluate_distributed as example

        found = example.run()
    finally:
        sys.path.remove(str(EXAMPLES))
    model, inputs, labels = example.data()
    expected = Evaluation(10)
    # In the same batches: matrix products of others may have other bits.
    for half in (slice(0, 500), slice(500, 1001)):
        for x, y in zip(inputs[half].split(64), labels[half].split(64)):
            expected.update(model(x), y, source="validation")
    assert found.to_bytes() == expected.to_bytes()


def gather_parts(rank, rendezvous, result):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    logits, labels = map(torch.from_numpy, data())
    cuts = range(0, N + 1, N // 16 + 1)
    mine = []
    for start in cuts[rank::2]:
        rows = slice(start, start + cuts.step)
        part = Evaluation(K, ignore_index=-100)
        part.update(logits[rows], labels[rows], first_row=start)
        mine.append(part.to_bytes())
    parts = [None, None]
    torch.distributed.all_gather_object(parts, mine)
    parts = [part for of_rank in parts for part in of_rank]
    assert len(parts) == 16
    random.Random(rank).shuffle(parts)  # each rank in an order of its own
    merged, *rest = map(Evaluation.from_bytes, parts)
    for part in rest:
        merged.merge(part)
    merged.save(f"{result}-{rank}")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_sixteen_parts_of_two_processes(tmp_path):
    arguments = (str(tmp_path / "rendezvous"), str(tmp_path / "result"))
    torch.multiprocessing.spawn(gather_parts, arguments, nprocs=2)
    for rank in range(2):
        assert Evaluation.load(f"{arguments[1]}-{rank}").to_bytes() == whole().to_bytes()


def test_dask():
    pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    example = [sys.executable, str(EXAMPLES / "evaluate_dask.py")]
    run = subprocess.run(example, capture_output=True, text=True, timeout=120)
    assert run.stdout.startswith("3320 rows in 16 shards on 2 workers: the same bits"), run.stderr
