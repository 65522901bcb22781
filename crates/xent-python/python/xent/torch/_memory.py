"""Memory for gradients."""

from __future__ import annotations

from sys import getrefcount

import torch
from torch import Tensor, UntypedStorage

_LARGE = 8 << 20
_keeps = True
_kept: list[UntypedStorage] = []


def keep_gradient_memory(keep: bool = True) -> None:
    """Reuses the memory of the last large gradient for the next, once nothing else refers to it. Default: it does.

    The system supplies new memory page by page, zeroed, and for logits of a large vocabulary that
    takes several times as long as loss and gradient themselves. One gradient is retained at most;
    ``keep_gradient_memory(False)`` releases it. CPU only.
    """
    global _keeps
    _keeps = keep
    if not keep:
        _kept.clear()


def gradient_like(logits: Tensor) -> Tensor:
    """Like ``torch.empty_like``."""
    size = logits.numel() * logits.element_size()
    if not _keeps or size < _LARGE:
        return torch.empty_like(logits)
    storage = _kept.pop() if _kept else None
    if storage is not None and storage.nbytes() == size and _nobody_has(storage):
        strides = torch.empty_like(logits, device="meta").stride()
        gradient = torch.empty(0, dtype=logits.dtype, device="cpu").set_(
            storage, 0, logits.shape, strides
        )
    else:
        del storage  # first, so that there is never more than one
        gradient = torch.empty_like(logits)
    _kept[:] = [gradient.untyped_storage()]
    return gradient


def _nobody_has(storage: UntypedStorage) -> bool:
    """Neither a tensor, a view, an array that was made of one, another process, nor who asked a tensor for its storage."""
    return (
        torch._C._storage_Use_Count(storage._cdata) == 1
        and not storage.is_shared()
        and getrefcount(storage) == _references_of_ours()
    )


def _references_of_ours() -> int:
    """Counted each time: in compiled code Python passes arguments in another way."""
    storage = [UntypedStorage(0)].pop()  # type: ignore[no-untyped-call]
    return _references(storage)


def _references(storage: UntypedStorage) -> int:
    return getrefcount(storage)
