"""Writes pytorch.json: a linear layer under PyTorch's cross-entropy in float64, with the loss and all gradients.

    pip install torch==2.15.0
    python make_golden.py
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
generator = torch.Generator().manual_seed(20151202)


def dyadic(*shape, scale=1.0):
    """Numbers with few digits, exact in bfloat16 too."""
    return torch.randint(-64, 65, shape, generator=generator) * (scale / 64)


def case(rows, features, classes, bias=True, upstream=1.0, probabilities=False, ignored=False, **options):
    hidden = dyadic(rows, features, scale=2).requires_grad_()
    weight = dyadic(classes, features).requires_grad_()
    offset = dyadic(classes).requires_grad_() if bias else None
    if probabilities:
        parts = torch.randint(1, 64, (rows, classes), generator=generator).double()
        target = parts / parts.sum(1, keepdim=True)
    else:
        target = torch.randint(0, classes, (rows,), generator=generator)
        if ignored:
            target[::3] = -100
    class_weights = options.pop("class_weights", None)
    class_weights = None if class_weights is None else torch.tensor(class_weights[:classes])
    loss = F.cross_entropy(F.linear(hidden, weight, offset), target, weight=class_weights, **options)
    gradients = torch.autograd.grad(
        loss,
        [tensor for tensor in (hidden, weight, offset) if tensor is not None],
        torch.as_tensor(upstream).expand_as(loss) if loss.dim() == 0 else torch.as_tensor(upstream)[:rows],
    )
    numbers = lambda tensor: None if tensor is None else tensor.detach().flatten().tolist()
    return {
        "rows": rows,
        "features": features,
        "classes": classes,
        "hidden": numbers(hidden),
        "weight": numbers(weight),
        "bias": numbers(offset),
        "labels": None if probabilities else target.tolist(),
        "probabilities": numbers(target) if probabilities else None,
        "epsilon": options.get("label_smoothing", 0.0),
        "class_weights": numbers(class_weights),
        "reduction": options.get("reduction", "mean"),
        "upstream": upstream if isinstance(upstream, list) else [upstream],
        "loss": numbers(loss.reshape(-1)),
        "to_hidden": numbers(gradients[0]),
        "to_weight": numbers(gradients[1]),
        "to_bias": numbers(gradients[2]) if bias else None,
    }


WEIGHTS = [1.0, 0.5, 2.0, 0.0, 1.5, 0.25, 3.0, 1.0, 0.75, 1.25, 2.5]
ROWS = [1.0, 0.0, -2.5, 3.75, 0.5, 1.0, 2.0]
cases = [
    case(5, 3, 7),
    case(5, 3, 7, bias=False, label_smoothing=0.1),
    case(6, 4, 11, label_smoothing=0.1, ignored=True),
    case(6, 4, 11, label_smoothing=0.1, ignored=True, class_weights=WEIGHTS),
    case(7, 2, 5, label_smoothing=0.3, reduction="sum", class_weights=WEIGHTS, upstream=3.75),
    case(7, 5, 9, reduction="none", ignored=True, label_smoothing=0.1, upstream=ROWS),
    case(7, 5, 9, bias=False, reduction="none", class_weights=WEIGHTS, upstream=ROWS),
    case(4, 3, 6, probabilities=True, label_smoothing=0.1),
    case(4, 3, 6, probabilities=True, reduction="sum", class_weights=WEIGHTS, upstream=-0.5),
    case(3, 2, 1, label_smoothing=0.1),
    case(3, 1, 4, label_smoothing=1.0, upstream=65536.0),
    case(1, 8, 3, bias=False),
]
lines = ",\n".join(json.dumps(one) for one in cases)
path = pathlib.Path(__file__).with_name("pytorch.json")
path.write_text(f'{{"torch": {json.dumps(torch.__version__)}, "cases": [\n{lines}\n]}}\n')
