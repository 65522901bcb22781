import os

import pytest
import torch

if not torch.cuda.is_available():
    # For the kernels of _triton: it has to be said before anything imports triton, as PyTorch's compiler does.
    os.environ["TRITON_INTERPRET"] = "1"

from cases import ROADS, take


@pytest.fixture(params=ROADS)
def road(request, monkeypatch):
    take(request.param, monkeypatch)
    return request.param


@pytest.fixture
def processes(monkeypatch):
    """Makes some that are threads: see processes.py."""
    pytest.importorskip("torch.distributed.tensor")
    from processes import Processes, meet_in_threads

    meet_in_threads(monkeypatch)
    return Processes


@pytest.fixture
def float32_products(monkeypatch):
    """Makes products of halves return float32, as a GPU's do."""
    from xent.torch import _chunks

    def install(dtype):
        product = _chunks.product

        def in_float32(a, b, out, add=False):
            assert a.dtype is b.dtype is dtype and out.dtype is torch.float32
            assert a.isfinite().all()
            product(a.float(), b.float(), out, add)

        monkeypatch.setattr(_chunks, "product", in_float32)
        monkeypatch.setattr(_chunks, "_multiplies", lambda *_: True)

    return install
