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
