"""Compiles the Triton kernels for GPUs that need not be there, and counts what the compilers made of them.

    python tests/triton_compiled.py            compares with tests/triton_compiled.json, exits with 1 if worse
    python tests/triton_compiled.py --write    writes that file

Nothing is executed. For each kernel and target: registers, bytes of registers spilled to memory, loads and
stores of 16 bytes among all of logits and gradients, and instructions per logit in the two loops of long rows
(those of rare branches counted as if always taken).
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from xent.options import complete
from xent.torch._batch import Batch
from xent.torch._triton import kernels, launch

RECORD = pathlib.Path(__file__).with_suffix(".json")
TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "sm_100": ("cuda", 100, 32)}
TARGETS["gfx942"] = ("hip", "gfx942", 64)
TOOLS = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin"
POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}
CASES = {
    "bfloat16, 1000 classes": (torch.bfloat16, 1000, {}),
    "bfloat16, 32000 classes": (torch.bfloat16, 32000, {}),
    "bfloat16, 50257 classes": (torch.bfloat16, 50257, {}),
    "float32, 32000 classes": (torch.float32, 32000, {}),
    "float32, 32000 classes, wrong-classes prior": (
        torch.float32,
        32000,
        {"prior": "wrong_classes"},
    ),
}


class Recorded:
    """Stands for a kernel, and keeps what it was called with."""

    def __getitem__(self, grid):
        return lambda **arguments: self.__dict__.update(arguments)


def calls(dtype, classes, options):
    """The arguments of both kernels."""
    recorded = Recorded(), Recorded()
    originals = kernels.forward, kernels.backward
    kernels.forward, kernels.backward = recorded
    try:
        logits, target = torch.empty(16, classes, dtype=dtype), torch.zeros(16, dtype=torch.int64)
        options = complete(label_smoothing=0.1, ignore_index=-100, reduction="mean", **options)
        count = torch.empty((), dtype=torch.float64)
        gradient, batch = torch.empty_like(logits), Batch(target)
        call = launch.call(logits, options, batch, 1)
        made = launch.forward(logits, gradient, call, True, False, (count, None))
        launch.backward(logits, gradient, call, made.coefficients, torch.ones(()), True)
    finally:
        kernels.forward, kernels.backward = originals
    return {
        name: (kernel, dict(vars(call)))
        for name, kernel, call in zip(("forward", "backward"), originals, recorded)
    }


def compiled(kernel, arguments, target):
    arguments = dict(arguments)
    arguments["num_warps"] = max(1, arguments["T"] // target[2])
    if target[0] == "cuda":
        arguments["EXP"] |= 2
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value, kind = arguments[parameter.name], None
        if isinstance(value, torch.Tensor):
            kind = POINTERS[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            kind = "fp32"
        elif isinstance(value, int) and not parameter.is_constexpr and value != 1:
            kind = "i32"
            if value % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            constants[(index,)] = value
        signature[parameter.name] = kind or "constexpr"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": arguments["num_warps"]}
    return triton.compile(source, target=GPUTarget(*target), options=options)


def counts(kernel, arguments, target):
    made = compiled(kernel, arguments, target)
    if target[0] == "hip":
        text = made.asm["amdgcn"]
        return {
            "registers": int(re.search(r"\.vgpr_count:\s+(\d+)", text)[1]),
            "spilled": int(re.search(r"\.vgpr_spill_count:\s+(\d+)", text)[1]),
            "wide loads": len(re.findall(r"(?:global|buffer)_load_dwordx4", text)),
            "wide stores": len(re.findall(r"(?:global|buffer)_store_dwordx4", text)),
        }
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = subprocess.check_output([TOOLS / "cuobjdump", "-res-usage", file.name], text=True)
        assembly = subprocess.check_output([TOOLS / "nvdisasm", "-c", file.name], text=True)
    instructions, labels, loops = [], {}, []
    for line in assembly.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(instruction[1])
            jump = re.search(r"BRA.*`\((\.L_x_\d+)\)", line)
            if jump and jump[1] in labels:
                loops.append(len(instructions) - labels[jump[1]])
    per_thread = arguments["R"] * arguments["B"] / (32 * arguments["num_warps"])
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "spilled": 4 * sum("STL" in instruction for instruction in instructions),
        "wide loads": sum(bool(re.search(r"LDG.*\.128", each)) for each in instructions),
        "wide stores": sum(bool(re.search(r"STG.*\.128", each)) for each in instructions),
        "instructions": len(instructions),
        "per logit": sorted(round(loop / per_thread, 1) for loop in loops if loop > per_thread),
    }


def main():
    record, complaints = {}, []
    old = {} if "--write" in sys.argv else json.loads(RECORD.read_text())
    for case, (dtype, classes, options) in CASES.items():
        for name, (kernel, arguments) in calls(dtype, classes, options).items():
            for target, gpu in TARGETS.items():
                key = f"{name}, {case}, {target}"
                found = record[key] = counts(kernel, arguments, gpu)
                print(
                    f"{key:75}", *(f"{what} {number}" for what, number in found.items()), flush=True
                )
                complaints += judged(key, found, old.get(key))
    if "--write" in sys.argv:
        RECORD.write_text(json.dumps({"triton": triton.__version__, **record}, indent=1) + "\n")
    elif old["triton"].split(".")[:2] != triton.__version__.split(".")[:2]:
        print(
            f"the record is of triton {old['triton']}, this is {triton.__version__}: not compared"
        )
        complaints = [complaint for complaint in complaints if "recorded" not in complaint]
    print("\n".join(complaints))
    sys.exit(bool(complaints))


def judged(key, found, old):
    """What is wrong with the counts."""
    if found["spilled"]:
        yield f"{key}: {found['spilled']} bytes spilled"
    if not found["wide loads"] or not found["wide stores"]:
        yield f"{key}: no loads or stores of 16 bytes"
    # Sorted: the loop that writes zeros, then the two sweeps, then what contains them.
    for loop in found.get("per logit", [])[1:3] if "forward" in key else []:
        if loop > 20.0 and "wrong-classes" not in key:
            yield f"{key}: {loop} instructions per logit"
    for what in ("registers", "instructions"):
        if old and what in old and found[what] > 1.1 * old[what]:
            yield f"{key}: {what} {found[what]}, recorded {old[what]}"


if __name__ == "__main__":
    main()
