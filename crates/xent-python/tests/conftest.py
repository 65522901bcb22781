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
