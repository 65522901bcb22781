"""Writes fixtures/: the same five rows of three logits, and their labels, in every format, by the packages that people write them with.

    pip install numpy==2.4.6 pyarrow==26.0.1 safetensors==0.8.0 ml_dtypes torch
    python make_fixtures.py
"""

import pathlib

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import safetensors.torch
import torch

folder = pathlib.Path(__file__).with_name("fixtures")
folder.mkdir(exist_ok=True)
# Exact in every type of half precision.
z = np.array([[0.5, -1, 2], [0, 0, 0], [-4, 3.5, 1], [1, 2, -0.25], [8, -8, 0]])
y = np.array([2, 0, 1, 1, 0])

np.save(folder / "z64.npy", z)
np.save(folder / "z16.npy", z.astype(np.float16))
np.save(folder / "fortran.npy", np.asfortranarray(z.astype(np.float32)))
np.save(folder / "big_endian.npy", z.astype(">f4"))
np.save(folder / "tokens.npy", z.astype(np.float32).reshape(5, 1, 3))
np.save(folder / "y.npy", y)
np.save(folder / "y8.npy", y.astype(np.uint8))
np.savez(folder / "stored.npz", logits=z.astype(np.float32), y=y)
np.savez_compressed(folder / "deflated.npz", logits=z.astype(np.float32), y=y.astype(np.int16))
np.savez(folder / "several.npz", a=z, b=z * 2, y=y)
np.savez(folder / "fortran.npz", logits=np.asfortranarray(z), y=y)
for name, dtype in [("f32", np.float32), ("f16", np.float16), ("bf16", ml_dtypes.bfloat16)]:
    tensors = {"logits": z.astype(dtype), "labels": y.astype(np.int32)}
    safetensors.numpy.save_file(tensors, folder / f"{name}.safetensors")
for name, dtype in [("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)]:
    tensors = {"logits": torch.tensor(z).to(dtype), "labels": torch.tensor(y)}
    safetensors.torch.save_file(tensors, folder / f"{name}.safetensors")
safetensors.numpy.save_file({"pad": np.zeros(3, np.uint8), "z": z, "w": z}, folder / "several.safetensors")

rows = z.tolist()
(folder / "table.csv").write_text("a,b,label,c\n" + "".join(f"{r[0]},{r[1]},{label},{r[2]}\n" for r, label in zip(rows, y)))
(folder / "labels.csv").write_text("label\n" + "".join(f"{label}\n" for label in y))
for name, kind, compression in [
    ("list", pa.list_(pa.float32()), "snappy"),
    ("fixed", pa.list_(pa.float64(), 3), "zstd"),
    ("large", pa.large_list(pa.float16()), "gzip"),
]:
    values = z.astype(np.float16) if name == "large" else z
    table = pa.table({"id": pa.array(list("abcde")), "logits": pa.array([list(row) for row in values], type=kind), "label": pa.array(y, type=pa.int32())})
    pq.write_table(table, folder / f"{name}.parquet", compression=compression, row_group_size=2)
wide = pa.table({"logit_0": z[:, 0], "logit_1": z[:, 1].astype(np.float32), "label": y, "logit_2": z[:, 2]})
pq.write_table(wide, folder / "wide.parquet", compression="none", row_group_size=3)
ragged = pa.table({"logits": pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]]), "label": pa.array([0, None])})
pq.write_table(ragged, folder / "ragged.parquet", compression="none")
nulls = pa.table({"logits": pa.array([[1.0, 2.0], [1.0, None]]), "label": pa.array([0, 1]), "text": pa.array(["a", "b"])})
pq.write_table(nulls, folder / "nulls.parquet", compression="none")
