"""Label-smoothed cross-entropy for PyTorch and NumPy: loss and gradient in one pass.

Correct with padding, class weights, masked classes and huge vocabularies.

- ``xent.torch``: ``CrossEntropyLoss`` and ``functional.cross_entropy``, drop-in replacements for
  PyTorch's; ``SmoothLabelCriterion``.
- ``xent.numpy``: ``cross_entropy`` and ``cross_entropy_with_grad`` on NumPy arrays and everything else
  that supports DLPack.
- ``xent.metrics``: ``Evaluation``, the metrics of ``xent eval`` as a value that merges.

``import xent`` loads none of them.
"""

import sysconfig as _sysconfig

if _sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise ImportError(
        "xent has not been tested on free-threaded builds of CPython and does not load there; "
        "use a build with the GIL (python3.14, not python3.14t)"
    )

from xent._xent import __version__

__all__ = ["__version__"]
