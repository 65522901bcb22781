import pytest

from cases import ROADS, take


@pytest.fixture(params=ROADS)
def road(request, monkeypatch):
    take(request.param, monkeypatch)
    return request.param
