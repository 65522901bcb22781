"""Gives `xent eval` files as NumPy, pandas, polars, DuckDB, pyarrow, R and safetensors write them.

Each file has to give the numbers that NumPy computes in float64, or an error that names the file,
column or option.

    pip install numpy==2.4.6 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1 \
        safetensors==0.8.0
    cargo build -p xent-cli --features parquet
    python crates/xent-cli/tests/strangers.py target/debug/xent
"""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import safetensors.numpy

# The files of the tables of cases all have these rows: multiples of 1/8, which every type of
# floats and a few decimals have exactly.
rng = np.random.default_rng(7)
N, K = 24, 3
Z = rng.integers(-40, 40, (N, K)) / 8
Y = np.where(rng.random(N) < 0.7, Z.argmax(1), rng.integers(0, K, N))
NAMES = ["cat", "dog", "ox"]
Y_NAMES = [NAMES[label] for label in Y]
# Two classes, for labels that are truth values.
Z2, Y2 = Z[:, :2], (Y == 1).astype(int)
P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
RANDOM = 300
TOLERANCE = 1e-9


@dataclass
class Case:
    """Arguments of `xent eval`, and what it has to say: numbers, or a message with these parts."""

    name: str
    arguments: list[str]
    numbers: dict[str, float] | None
    says: tuple[str, ...] = ()


def right(name, arguments, z=Z, y=Y):
    """A case whose numbers are those of these logits and labels, in float64."""
    z, y = np.asarray(z, np.float64), np.asarray(y)
    shifted = z - z.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    hot = np.arange(z.shape[1]) == y[:, None]
    return Case(
        name,
        arguments,
        {
            "nll": -log_p[hot].mean(),
            "accuracy": (z.argmax(1) == y).mean(),
            "brier": ((np.exp(log_p) - hot) ** 2).sum(1).mean(),
        },
    )


def refused(name, arguments, *says):
    """A case that is an error."""
    return Case(name, arguments, None, says)


def arguments(logits, labels=None, *options):
    """The arguments for these files."""
    return ["--logits", logits, *(["--targets", labels] if labels else []), *options]


def write(path, text, encoding="utf-8"):
    Path(path).write_bytes(text.encode(encoding))
    return path


def numpy_files(at):
    def npy(name, array):
        np.save(at(name), array)
        return at(name)

    def npz(name, save=np.savez, **arrays):
        save(at(name), **arrays)
        return at(name)

    def text(name, array, **options):
        np.savetxt(at(name), array, **options)
        return at(name)

    y = npy("y.npy", Y)
    z = npy("z.npy", Z)
    images = Z.reshape(2, 4, 3, K).transpose(0, 3, 1, 2)
    pixels = Y.reshape(2, 4, 3)
    structured = np.zeros(N, [("logits", "f4", K), ("label", "i4")])
    holes = Z.copy()
    holes[5, 1] = np.nan
    kept = np.arange(N) != 5
    masked = np.where(np.arange(K) == (Y[:, None] + 1) % K, -np.inf, Z)
    some = np.where(np.arange(N) % 5 == 0, -100, Y)
    cases = [
        right("float64", arguments(z, y)),
        right("float32", arguments(npy("f4.npy", Z.astype("f4")), y)),
        right("float16", arguments(npy("f2.npy", Z.astype("f2")), y)),
        right("big-endian", arguments(npy("be.npy", Z.astype(">f4")), npy("by.npy", Y.astype(">i2")))),
        right("big-endian float16", arguments(npy("be2.npy", Z.astype(">f2")), y)),
        right("Fortran order", arguments(npy("fortran.npy", np.asfortranarray(Z)), y)),
        right("uint8 labels", arguments(z, npy("u1.npy", Y.astype("u1")))),
        right("uint64 labels", arguments(z, npy("u8.npy", Y.astype("u8")))),
        right("bool labels", arguments(npy("z2.npy", Z2), npy("b.npy", Y2 == 1)), Z2, Y2),
        right("labels as a column", arguments(z, npy("column.npy", Y[:, None]))),
        right("an axis of length 1", arguments(npy("tokens.npy", Z[:, None]), npy("tokens_y.npy", Y[:, None]))),
        right("transposed", arguments(npy("t.npy", Z.T), y, "--axis=0")),
        right("images", arguments(npy("i.npy", images), npy("iy.npy", pixels))),
        right("images in Fortran order", arguments(npy("if.npy", np.asfortranarray(images)), npy("ify.npy", np.asfortranarray(pixels)))),
        right("slice of a larger array", arguments(npy("slice.npy", np.repeat(Z, 2, 1)[:, ::2]), y)),
        right("masked classes", arguments(npy("masked.npy", masked), y), masked),
        right("a row with NaN is left out", arguments(npy("nan.npy", holes), y, "--skip-non-finite"), Z[kept], Y[kept]),
        right("ignored labels", arguments(z, npy("some.npy", some), "--ignore-index=-100"), Z[some >= 0], Y[some >= 0]),
        right("probabilities", arguments(npy("p.npy", P), y, "--probabilities"), np.log(P)),
        right("float32 probabilities", arguments(npy("p4.npy", P.astype("f4")), y, "--probabilities"), np.log(P.astype("f4").astype("f8"))),
        right("npz", arguments(npz("a.npz", logits=Z, y=Y))),
        right("npz compressed", arguments(npz("c.npz", np.savez_compressed, logits=Z.astype("f4"), y=Y))),
        right("npz, names", arguments(npz("n.npz", a=Z, b=Z * 2, y=Y, t=Y) + ":a", at("n.npz") + ":y")),
        right("npz, unnamed", arguments(npz("arr.npz", arr_0=Z, arr_1=Y) + ":arr_0", at("arr.npz") + ":arr_1")),
        right("npz beside texts", arguments(npz("s.npz", z=Z, y=Y, names=np.array(NAMES)))),
        right("savetxt", arguments(text("z.csv", Z, delimiter=","), y)),
        right("savetxt, %.3f", arguments(text("z3.csv", Z, delimiter=",", fmt="%.3f"), y)),
        right("savetxt, tabs", arguments(text("z.tsv", Z, delimiter="\t"), y)),
        right("savetxt, gzip", arguments(text("z.csv.gz", Z, delimiter=","), y)),
        right("savetxt, header", arguments(text("h.csv", np.c_[Z, Y], delimiter=",", comments="", header="cat,dog,ox,label"))),
        right("savetxt, header after #", arguments(text("hash.csv", Z, delimiter=",", header="cat,dog,ox"), y)),
        right("savetxt, label last", arguments(text("last.csv", np.c_[Z, Y], delimiter=","), at("last.csv") + ":3")),
        refused("savetxt, integer labels", arguments(z, text("y.csv", [0, *Y[1:]], fmt="%d")), "y.csv", "a line with a name before it"),
        refused("savetxt, spaces", arguments(text("spaces.csv", Z), y), "spaces.csv", "separated by commas, semicolons or tabs"),
        refused("savetxt, .txt", arguments(text("z.txt", Z), y), "z.txt", "ends in '.txt'"),
        refused("labels one-hot", arguments(z, npy("hot.npy", np.eye(K, dtype=int)[Y])), "hot.npy", "72 labels, expected 24"),
        refused("float labels", arguments(z, npy("fy.npy", Y.astype("f8"))), "fy.npy", "float64, expected integers"),
        refused("labels from 1", arguments(z, npy("one.npy", Y + 1)), "row 3 has the label 3", "counted from 0"),
        refused("labels missing", arguments(z), "--targets"),
        refused("too few labels", arguments(z, npy("few.npy", Y[:-1])), "few.npy", "23 labels, expected 24"),
        refused("ignored labels", arguments(z, at("some.npy")), "row 0 has the label -100", "--ignore-index=-100"),
        refused("a row with NaN", arguments(at("nan.npy"), y), "nan.npy", "row 5", "--skip-non-finite"),
        refused("integer logits", arguments(npy("int.npy", np.int64(Z)), y), "int.npy", "int64, expected float"),
        refused("complex", arguments(npy("complex.npy", Z + 0j), y), "complex.npy", "c16"),
        refused("long double", arguments(npy("long.npy", np.longdouble(Z)), y), "long.npy", "f16"),
        refused("structured", arguments(npy("structured.npy", structured)), "structured.npy"),
        refused("structured, labels apart", arguments(at("structured.npy"), y), "structured.npy", "(structured)"),
        refused("objects", arguments(npy("object.npy", np.array([[1.5, None]])), y), "object.npy", "O"),
        refused("texts as labels", arguments(z, npy("u.npy", np.array(Y_NAMES))), "u.npy", "U3"),
        refused("one axis", arguments(npy("flat.npy", Z[:, 0]), y), "flat.npy", "shape (24,)"),
        refused("transposed, no axis", arguments(at("t.npy"), y), "y.npy", "24 labels, expected"),
        refused("empty", arguments(npy("e.npy", Z[:0]), npy("ey.npy", Y[:0])), "e.npy", "no rows"),
        refused("npz, several", arguments(npz("several.npz", a=Z, b=Z, y=Y)), "several.npz", "FILE:NAME"),
        refused("npz, no such array", arguments(at("a.npz") + ":z"), "a.npz", "no array 'z'"),
        refused("columns of an array", arguments(z, y, "--columns=a"), "--columns"),
    ]  # fmt: skip
    return cases


def pandas_files(at):
    table = pd.DataFrame(Z, columns=NAMES).assign(label=Y)
    numbered = pd.DataFrame(Z, columns=[f"class_{k}" for k in range(K)]).assign(label=Y)
    unnamed = pd.DataFrame(Z)
    named = table.assign(label=Y_NAMES)
    np.save(at("y.npy"), Y)
    y = at("y.npy")

    def csv(name, frame, index=False, **options):
        frame.to_csv(at(name), index=index, **options)
        return at(name)

    def parquet(name, frame, **options):
        frame.to_parquet(at(name), **options)
        return at(name)

    lists = pd.DataFrame({"logits": list(Z), "label": Y})
    two = pd.DataFrame(Z2, columns=["no", "yes"]).assign(label=Y2 == 1)
    nullable = numbered.astype({"class_1": "Float32", "label": "Int64"})
    missing = nullable.copy()
    missing.loc[3, "label"] = pd.NA
    hole = numbered.copy()
    hole.loc[4, "class_1"] = np.nan
    strings = numbered.assign(label=[str(label) for label in Y])
    categories = named.astype({"label": "category"})
    integers = numbered.assign(label=pd.Categorical(Y))
    index = numbered.set_index(pd.Index([f"r{row}" for row in range(N)]))
    levels = pd.DataFrame(Z, columns=pd.MultiIndex.from_product([["logit"], NAMES]))
    twice = pd.concat([numbered, numbered[["class_0"]]], axis=1)
    cases = [
        right("names", arguments(csv("names.csv", table))),
        right("numbered", arguments(csv("numbered.csv", numbered))),
        right("numbered in the order of letters", arguments(csv("letters.csv", numbered[["label", "class_2", "class_0", "class_1"]]))),
        right("positions", arguments(csv("positions.csv", unnamed), y)),
        right("positions and index", arguments(csv("index.csv", unnamed, index=True), y)),
        right("positions and labels", arguments(csv("positioned.csv", unnamed.assign(label=Y)))),
        right("no header", arguments(csv("bare.csv", unnamed, header=False), y)),
        right("no header, label", arguments(csv("bare_label.csv", table, header=False), at("bare_label.csv") + ":3")),
        right("numbered and index", arguments(csv("numbered_index.csv", numbered, index=True))),
        right("index dropped", arguments(csv("dropped.csv", table, index=True), None, "--drop=")),
        right("columns chosen", arguments(csv("chosen.csv", table, index=True), None, "--columns=cat..ox")),
        right("semicolons", arguments(csv("semicolons.csv", table, sep=";"))),
        right("tabs", arguments(csv("tabs.tsv", table, sep="\t"))),
        right("gzip", arguments(csv("z.csv.gz", table))),
        right("byte order mark", arguments(csv("bom.csv", numbered, encoding="utf-8-sig"))),
        right("CRLF", arguments(csv("crlf.csv", table, lineterminator="\r\n"))),
        right("CR", arguments(csv("cr.csv", table, lineterminator="\r"))),
        right("all quoted", arguments(csv("quoted.csv", table, quoting=1))),
        right("texts quoted", arguments(csv("texts.csv", named, quoting=2))),
        right("rounded", arguments(csv("rounded.csv", table, float_format="%.3f"))),
        right("exponents", arguments(csv("exponents.csv", table, float_format="%.9E"))),
        right("labels are names", arguments(csv("named.csv", named))),
        right("labels are names, in another column", arguments(csv("answer.csv", named.rename(columns={"label": "answer"})), at("answer.csv") + ":answer")),
        right("label called y", arguments(csv("y.csv", numbered.rename(columns={"label": "y"})), at("y.csv") + ":y")),
        right("label called Target", arguments(csv("target.csv", numbered.rename(columns={"label": "Target"})))),
        right("labels are floats", arguments(csv("floats.csv", numbered.astype({"label": float})))),
        right("labels are truth values", arguments(csv("truth.csv", two)), Z2, Y2),
        right("labels of a series", arguments(csv("z.csv", numbered, columns=numbered.columns[:K]), csv("s.csv", numbered.label, index=True))),
        right("labels of a series without a name", arguments(at("z.csv"), csv("s0.csv", pd.Series(Y), index=True))),
        right("prefixes", arguments(csv("prefix.csv", named.rename(columns={name: f"p_{name}" for name in NAMES})))),
        right("names of others", arguments(csv("others.csv", numbered), csv("others_y.csv", named[["label"]]) + ":label", "--class-names=cat,dog,ox")),
        right("parquet", arguments(parquet("z.parquet", numbered))),
        right("parquet, names", arguments(parquet("names.parquet", table))),
        right("parquet, positions", arguments(parquet("positions.parquet", unnamed.rename(columns=str).assign(label=Y)))),
        right("parquet, index of texts", arguments(parquet("index.parquet", index))),
        right("parquet, categories", arguments(parquet("categories.parquet", categories))),
        right("parquet, integer categories", arguments(parquet("integers.parquet", integers))),
        right("parquet, texts", arguments(parquet("texts.parquet", named))),
        right("parquet, texts that are numbers", arguments(parquet("strings.parquet", strings))),
        right("parquet, nullable types", arguments(parquet("nullable.parquet", nullable))),
        right("parquet, lists", arguments(parquet("lists.parquet", lists))),
        right("parquet, truth values", arguments(parquet("truth.parquet", two)), Z2, Y2),
        right("parquet, float labels", arguments(parquet("floats.parquet", numbered.astype({"label": "f4"})))),
        right("parquet, labels apart", arguments(parquet("apart.parquet", unnamed.rename(columns=str)), parquet("labels.parquet", table[["label"]]))),
        refused("index", arguments(csv("i.csv", table, index=True)), "i.csv", "the column without a name", "--drop ''"),
        refused("id", arguments(csv("id.csv", numbered, index=True, index_label="id")), "column id", "--drop id"),
        refused("prediction beside", arguments(csv("pred.csv", numbered.assign(pred=Z.argmax(1)))), "column pred", "--drop pred"),
        refused("split beside", arguments(csv("split.csv", table.assign(split="test"))), "column split", "--drop split"),
        refused("text beside", arguments(csv("text.csv", table.assign(text="a"))), "column text"),
        refused("two families", arguments(csv("two.csv", numbered.assign(p_0=0.5, p_1=0.5))), "p_0 … p_1", "--columns"),
        refused("a gap", arguments(csv("gap.csv", numbered.drop(columns="class_1").assign(class_3=0.5))), "class_0 … class_3", "--columns"),
        refused("label not named", arguments(csv("kind.csv", numbered.rename(columns={"label": "y"}))), "kind.csv", "FILE:NAME"),
        refused("decimal comma", arguments(csv("comma.csv", table, sep=";", decimal=",")), "comma.csv", "column cat", "decimal comma"),
        refused("decimal comma, quoted", arguments(csv("comma2.csv", table, decimal=",")), "comma2.csv", "column cat", "decimal comma"),
        refused("no value", arguments(csv("hole.csv", hole)), "hole.csv", "row 4", "column class_1"),
        refused("no label", arguments(csv("missing.csv", missing)), "missing.csv", "row 3", "column label"),
        refused("unknown name", arguments(csv("unknown.csv", named.replace({"label": {"ox": "cow"}}))), "column label", "'cow'"),
        refused("UTF-16", arguments(csv("utf16.csv", table, encoding="utf-16")), "utf16.csv", "UTF-16"),
        refused("two levels of names", arguments(csv("levels.csv", levels), y), "levels.csv", "logit"),
        refused("a name twice", arguments(csv("twice.csv", twice)), "twice.csv", "class_0"),
        refused("separated by |", arguments(csv("bar.csv", table, sep="|")), "bar.csv", "separated by commas, semicolons or tabs"),
        refused("Feather", arguments(write(at("z.feather"), "")), "ends in '.feather'"),
        refused("parquet, no label", arguments(parquet("missing.parquet", missing)), "missing.parquet", "row 3", "column label"),
        refused("parquet, NaN", arguments(parquet("hole.parquet", hole)), "hole.parquet", "row 4"),
        refused("parquet, id", arguments(parquet("id.parquet", numbered.assign(id=range(N)))), "column id", "--drop id"),
        refused("parquet, text beside", arguments(parquet("text.parquet", numbered.assign(text="a"))), "column text", "--drop text"),
        refused("parquet, index among names", arguments(parquet("in.parquet", table.set_index(index.index))), "__index_level_0__", "--drop"),
        refused("parquet called csv", arguments(parquet("p.csv", table)), "p.csv"),
        refused("csv called parquet", arguments(csv("c.parquet", table)), "c.parquet"),
    ]  # fmt: skip
    return cases


def polars_files(at):
    table = pl.DataFrame({name: Z[:, k] for k, name in enumerate(NAMES)} | {"label": Y})
    numbered = table.rename({name: f"z{k}" for k, name in enumerate(NAMES)})
    named = table.with_columns(label=pl.Series(Y_NAMES))
    rows = pl.DataFrame({"logits": Z.tolist(), "label": Y})
    null = rows.with_columns(
        logits=pl.Series([[1.5, None, 0.5] if row == 6 else Z[row].tolist() for row in range(N)])
    )
    ragged = rows.with_columns(
        logits=pl.Series([Z[row, : 2 if row == 9 else K].tolist() for row in range(N)])
    )
    nested = rows.with_columns(logits=pl.Series([[row] for row in Z.tolist()]))
    absent = rows.with_columns(
        logits=pl.Series([None if row == 2 else Z[row].tolist() for row in range(N)])
    )

    def csv(name, frame, **options):
        frame.write_csv(at(name), **options)
        return at(name)

    def parquet(name, frame, **options):
        frame.write_parquet(at(name), **options)
        return at(name)

    cases = [
        right("csv", arguments(csv("z.csv", table))),
        right("csv, float32", arguments(csv("f4.csv", numbered.cast({"z0": pl.Float32})))),
        right("csv, semicolons", arguments(csv("semicolons.csv", named, separator=";"))),
        right("csv, exponents", arguments(csv("e.csv", table, float_scientific=True))),
        right("csv, byte order mark", arguments(csv("bom.csv", table, include_bom=True))),
        right("csv, quoted", arguments(csv("quoted.csv", table, quote_style="always"))),
        right("csv, truth values", arguments(csv("b.csv", table.select("cat", "dog", label=pl.Series(Y2 == 1)))), Z2, Y2),
        right("wide", arguments(parquet("wide.parquet", numbered))),
        right("wide, float32", arguments(parquet("f4.parquet", numbered.cast({"z1": pl.Float32})))),
        right("lists", arguments(parquet("lists.parquet", rows))),
        right("lists of float32", arguments(parquet("l4.parquet", rows.cast({"logits": pl.List(pl.Float32)})))),
        right("arrays", arguments(parquet("arrays.parquet", rows.cast({"logits": pl.Array(pl.Float64, K)})))),
        right("categorical", arguments(parquet("categorical.parquet", named.cast({"label": pl.Categorical})))),
        right("enum", arguments(parquet("enum.parquet", named.cast({"label": pl.Enum(["ox", "dog", "cat"])})))),
        right("texts", arguments(parquet("texts.parquet", named))),
        right("texts, by name", arguments(at("texts.parquet"), at("texts.parquet") + ":label")),
        right("uint8", arguments(parquet("u1.parquet", rows.cast({"label": pl.UInt8})))),
        right("int16", arguments(parquet("i2.parquet", rows.cast({"label": pl.Int16})))),
        right("decimals", arguments(parquet("decimals.parquet", numbered.cast({f"z{k}": pl.Decimal(12, 4) for k in range(K)})))),
        right("row groups", arguments(parquet("groups.parquet", rows, row_group_size=5))),
        right("by pyarrow", arguments(parquet("pyarrow.parquet", rows, use_pyarrow=True))),
        right("statistics", arguments(parquet("statistics.parquet", numbered, statistics="full"))),
        *[right(codec, arguments(parquet(f"{codec}.parquet", rows, compression=codec))) for codec in ["uncompressed", "snappy", "gzip", "lz4", "zstd"]],
        refused("brotli", arguments(parquet("brotli.parquet", rows, compression="brotli")), "brotli.parquet", "brotli"),
        refused("csv, decimal comma", arguments(csv("comma.csv", table, separator=";", decimal_comma=True)), "comma.csv", "column cat", "decimal comma"),
        refused("csv, NA", arguments(csv("na.csv", table.with_columns(dog=pl.Series([None, *Z[1:, 1]])), null_value="NA")), "na.csv", "column dog", "NA"),
        refused("csv, row index", arguments(csv("index.csv", table.with_row_index())), "column index", "--drop index"),
        refused("row index", arguments(parquet("index.parquet", numbered.with_row_index())), "column index", "--drop index"),
        refused("a row index by another name", arguments(parquet("nr.parquet", table.with_row_index("nr"))), "column nr", "--drop nr"),
        refused("no value in a list", arguments(parquet("null.parquet", null)), "null.parquet", "row 6", "class 1"),
        refused("no list", arguments(parquet("absent.parquet", absent)), "absent.parquet", "row 2"),
        refused("ragged", arguments(parquet("ragged.parquet", ragged)), "ragged.parquet", "row 9"),
        refused("struct", arguments(parquet("struct.parquet", table.select("label", logits=pl.struct(*NAMES)))), "struct.parquet", "logits"),
        refused("lists of lists", arguments(parquet("nested.parquet", nested)), "nested.parquet", "logits"),
        refused("two columns of lists", arguments(parquet("both.parquet", rows.with_columns(features="logits"))), "both.parquet", "FILE:NAME"),
        refused("IPC", arguments(write(at("z.ipc"), "")), "ends in '.ipc'"),
    ]  # fmt: skip
    return cases


def duckdb_files(at):
    connection = duckdb.connect()
    table = pd.DataFrame(Z, columns=["z0", "z1", "z2"]).assign(label=Y, name=Y_NAMES)
    connection.register("t", table)
    many = 300_000
    repeated = np.arange(many) % N
    connection.register("many", table.iloc[repeated])

    def copy(name, query, options="FORMAT parquet"):
        connection.execute(f"COPY ({query}) TO '{at(name)}' ({options})")
        return at(name)

    wide = "SELECT z0, z1, z2, label FROM t"
    lists = "SELECT [z0, z1, z2] AS logits, label FROM t"
    csv = "FORMAT csv, HEADER"

    def decimals(kind):
        return f"SELECT z0::{kind} AS z0, z1::{kind} AS z1, z2::{kind} AS z2, label FROM t"

    cases = [
        right("parquet", arguments(copy("z.parquet", wide))),
        right("lists", arguments(copy("lists.parquet", lists))),
        right("lists of FLOAT", arguments(copy("floats.parquet", "SELECT [z0, z1, z2]::FLOAT[] AS logits, label FROM t"))),
        right("arrays", arguments(copy("arrays.parquet", "SELECT [z0, z1, z2]::FLOAT[3] AS logits, label FROM t"))),
        *[right(kind, arguments(copy(f"{kind}.parquet", decimals(kind)))) for kind in ["DECIMAL(4,3)", "DECIMAL(9,3)", "DECIMAL(18,6)", "DECIMAL(38,10)", "FLOAT"]],
        right("decimal literals", arguments(copy("literals.parquet", "SELECT * FROM (VALUES (0.5, 1.25, 0), (2.5, 0.75, 1)) v(a, b, label)")), [[0.5, 1.25], [2.5, 0.75]], [0, 1]),
        right("HUGEINT labels", arguments(copy("huge.parquet", "SELECT * REPLACE (label::HUGEINT AS label) FROM (" + wide + ")"))),
        right("UTINYINT labels", arguments(copy("tiny.parquet", "SELECT * REPLACE (label::UTINYINT AS label) FROM (" + lists + ")"))),
        right("BOOLEAN labels", arguments(copy("bool.parquet", "SELECT z0, z1, label = 1 AS label FROM t")), Z2, Y2),
        right("VARCHAR labels", arguments(copy("varchar.parquet", "SELECT z0 AS cat, z1 AS dog, z2 AS ox, name AS label FROM t"))),
        right("ENUM labels", arguments(copy("enum.parquet", "SELECT z0 AS cat, z1 AS dog, z2 AS ox, name::ENUM('ox', 'cat', 'dog') AS label FROM t"))),
        right("labels by name", arguments(copy("name.parquet", "SELECT z0 AS cat, z1 AS dog, z2 AS ox, name FROM t"), at("name.parquet") + ":name")),
        *[right(codec, arguments(copy(f"{codec}.parquet", lists, f"FORMAT parquet, CODEC '{codec}'"))) for codec in ["uncompressed", "snappy", "gzip", "zstd", "lz4_raw"]],
        right("version 2", arguments(copy("v2.parquet", wide, "FORMAT parquet, PARQUET_VERSION v2"))),
        right("large pages", arguments(copy("large.parquet", "SELECT [z0, z1, z2] AS logits, label FROM many", f"FORMAT parquet, ROW_GROUP_SIZE {many}")), Z[repeated], Y[repeated]),
        right("csv", arguments(copy("z.csv", wide, csv))),
        right("csv, names", arguments(copy("names.csv", "SELECT z0 AS cat, z1 AS dog, z2 AS ox, name AS label FROM t", csv))),
        right("csv, truth values", arguments(copy("bool.csv", "SELECT z0, z1, label = 1 AS label FROM t", csv)), Z2, Y2),
        right("csv, semicolons", arguments(copy("semicolons.csv", wide, csv + ", DELIMITER ';'"))),
        right("csv, gzip", arguments(copy("z.csv.gz", wide, csv + ", COMPRESSION gzip"))),
        right("csv, quoted", arguments(copy("quoted.csv", wide, csv + ", FORCE_QUOTE *"))),
        right("csv, no header", arguments(copy("bare.csv", wide, "FORMAT csv, HEADER false"), at("bare.csv") + ":3")),
        refused("csv, lists", arguments(copy("lists.csv", lists, csv)), "lists.csv", "column logits"),
        refused("csv, |", arguments(copy("bar.csv", wide, csv + ", DELIMITER '|'")), "bar.csv", "separated by commas, semicolons or tabs"),
        refused("csv, zstd", arguments(copy("z.csv.zst", wide, csv + ", COMPRESSION zstd")), "ends in '.zst'"),
        refused("brotli", arguments(copy("brotli.parquet", lists, "FORMAT parquet, CODEC 'brotli'")), "brotli.parquet", "brotli"),
        refused("lists of decimals", arguments(copy("ld.parquet", "SELECT [z0, z1, z2]::DECIMAL(9,3)[] AS logits, label FROM t")), "ld.parquet", "logits"),
        refused("no label", arguments(copy("null.parquet", "SELECT z0, z1, z2, nullif(label, 1) AS label FROM t")), "null.parquet", "column label"),
        refused("no logit", arguments(copy("hole.parquet", "SELECT z0, nullif(z1, z1) AS z1, z2, label FROM t")), "hole.parquet", "row 0", "column z1"),
        refused("identifiers", arguments(copy("uuid.parquet", "SELECT uuid() AS key, z0, z1, z2, label FROM t")), "column key", "--drop key"),
        refused("timestamps", arguments(copy("now.parquet", "SELECT now() AS at, z0, z1, z2, label FROM t")), "column at", "--drop at"),
        refused("row number", arguments(copy("row.parquet", "SELECT row_number() OVER () AS nr, z0, z1, label FROM t")), "column nr", "--drop nr"),
    ]  # fmt: skip
    return cases


def pyarrow_files(at):
    wide = {f"class_{k}": pa.array(Z[:, k]) for k in range(K)}
    label = pa.array(Y)
    names = pa.array(Y_NAMES)

    def lists(kind, values=Z):
        return pa.array([list(row) for row in values], kind)

    logits = lists(pa.list_(pa.float64()))

    def parquet(name, columns, **options):
        pq.write_table(pa.table(columns), at(name), **options)
        return at(name)

    def csv(name, columns, **options):
        options = pyarrow.csv.WriteOptions(**options)
        pyarrow.csv.write_csv(pa.table(columns), at(name), options)
        return at(name)

    half = lists(pa.list_(pa.float16()), Z.astype("f2"))
    tensor = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [K]), lists(pa.list_(pa.float32(), K))
    )
    views = pa.ListViewArray.from_arrays(np.arange(N) * K, np.full(N, K), pa.array(Z.ravel()))
    sliced = pa.table({"logits": logits, "label": label})
    doubled = pa.concat_tables([sliced, sliced, sliced]).slice(N, N)
    cases = [
        right("lists", arguments(parquet("lists.parquet", {"logits": logits, "label": label}))),
        right("wide", arguments(parquet("wide.parquet", wide | {"label": label}))),
        right("fixed lists", arguments(parquet("fixed.parquet", {"logits": lists(pa.list_(pa.float32(), K)), "label": label}))),
        right("large lists", arguments(parquet("large.parquet", {"logits": lists(pa.large_list(pa.float64())), "label": label}))),
        right("half precision", arguments(parquet("half.parquet", {"logits": half, "label": label}))),
        right("fixed lists of half precision", arguments(parquet("half3.parquet", {"logits": lists(pa.list_(pa.float16(), K), Z.astype("f2")), "label": label}))),
        right("wide, half precision", arguments(parquet("half_wide.parquet", {name: column.cast(pa.float16()) for name, column in wide.items()} | {"label": label}))),
        right("tensors", arguments(parquet("tensor.parquet", {"logits": tensor, "label": label}))),
        right("views of lists", arguments(parquet("views.parquet", {"logits": views, "label": label}))),
        right("a slice", arguments(parquet("slice.parquet", {"logits": doubled["logits"], "label": doubled["label"]}))),
        right("integers in a dictionary", arguments(parquet("dictionary.parquet", {"logits": logits, "label": label.dictionary_encode()}))),
        right("names in a dictionary", arguments(parquet("names.parquet", dict(zip(NAMES, wide.values())) | {"label": names.dictionary_encode()}))),
        right("large strings", arguments(parquet("strings.parquet", dict(zip(NAMES, wide.values())) | {"label": names.cast(pa.large_string())}))),
        right("views of strings", arguments(parquet("string_views.parquet", dict(zip(NAMES, wide.values())) | {"label": names.cast(pa.string_view())}))),
        right("logits in a dictionary", arguments(parquet("logits_dictionary.parquet", wide | {"class_1": wide["class_1"].dictionary_encode(), "label": label}))),
        right("label by name", arguments(parquet("kind.parquet", {"logits": logits, "kind": label, "id": pa.array(range(N))}), at("kind.parquet") + ":kind")),
        right("logits by name", arguments(parquet("two.parquet", {"a": logits, "b": half, "label": label}) + ":a")),
        right("columns backwards", arguments(parquet("backwards.parquet", {"label": label} | dict(reversed(wide.items()))))),
        right("columns chosen", arguments(parquet("chosen.parquet", wide | {"p_0": wide["class_1"], "p_1": wide["class_0"], "label": label}), None, "--columns=class_*")),
        right("column dropped", arguments(parquet("dropped.parquet", wide | {"text": names, "label": label}), None, "--drop=text")),
        right("row groups", arguments(parquet("groups.parquet", {"logits": logits, "label": label}, row_group_size=7))),
        right("wide, row groups", arguments(parquet("wide_groups.parquet", wide | {"label": label}, row_group_size=1))),
        right("small pages", arguments(parquet("pages.parquet", {"logits": logits, "label": label}, data_page_size=16, write_batch_size=2))),
        right("wide, small pages", arguments(parquet("wide_pages.parquet", wide | {"label": label}, data_page_size=16, write_batch_size=5))),
        right("pages of version 2", arguments(parquet("v2.parquet", {"logits": logits, "label": label}, data_page_version="2.0"))),
        right("version 1.0", arguments(parquet("v1.parquet", {"logits": logits, "label": label}, version="1.0"))),
        right("bytes split", arguments(parquet("split.parquet", {"logits": logits, "label": label}, use_dictionary=False, use_byte_stream_split=["logits.list.element"]))),
        right("differences", arguments(parquet("delta.parquet", {"logits": logits, "label": label}, use_dictionary=False, column_encoding={"label": "DELTA_BINARY_PACKED"}))),
        right("indices and checksums", arguments(parquet("checksum.parquet", {"logits": logits, "label": label}, write_page_index=True, write_page_checksum=True))),
        right("no Arrow schema", arguments(parquet("schema.parquet", {"logits": lists(pa.list_(pa.float32(), K)), "label": label}, store_schema=False))),
        right("names of version 2 of lists", arguments(parquet("item.parquet", {"logits": logits, "label": label}, use_compliant_nested_type=False))),
        *[right(codec, arguments(parquet(f"{codec}.parquet", wide | {"label": label}, compression=codec))) for codec in ["none", "snappy", "gzip", "lz4", "zstd"]],
        *[right(str(kind), arguments(parquet(f"{kind}.parquet", {name: column.cast(kind) for name, column in wide.items()} | {"label": label}))) for kind in [pa.decimal32(6, 3), pa.decimal64(12, 3), pa.decimal128(20, 5)]],
        right("csv", arguments(csv("z.csv", wide | {"label": label}))),
        right("csv, names", arguments(csv("names.csv", dict(zip(NAMES, wide.values())) | {"label": names}))),
        right("csv, no header", arguments(csv("bare.csv", wide | {"label": label}, include_header=False), at("bare.csv") + ":3")),
        refused("brotli", arguments(parquet("brotli.parquet", wide | {"label": label}, compression="brotli")), "brotli.parquet", "brotli"),
        refused("labels too large", arguments(parquet("u8.parquet", {"logits": logits, "label": pa.array([2**64 - 1] * N, pa.uint64())})), "u8.parquet", "column label", "'18446744073709551615'"),
        refused("labels of another type", arguments(parquet("dates.parquet", {"logits": logits, "label": label.cast(pa.timestamp("s"))})), "dates.parquet", "label"),
        refused("labels are fractions", arguments(parquet("fractions.parquet", {"logits": logits, "label": pa.array(Y + 0.5)})), "column label", "'0.5'"),
        refused("no labels", arguments(parquet("unlabelled.parquet", {"logits": logits})), "unlabelled.parquet", "logits"),
        refused("no rows", arguments(parquet("empty.parquet", {"logits": logits[:0], "label": label[:0]})), "empty.parquet"),
        refused("no such column", arguments(at("lists.parquet"), at("lists.parquet") + ":y"), "no column 'y'"),
        refused("lists of integers", arguments(parquet("ints.parquet", {"logits": pa.array(np.int64(Z).tolist()), "label": label})), "ints.parquet", "logits"),
        refused("Arrow", arguments(write(at("z.arrow"), "")), "ends in '.arrow'"),
    ]  # fmt: skip
    return cases


def r_files(at):
    np.save(at("y.npy"), Y)
    y = at("y.npy")

    def number(value):
        return f"{value:.15g}"

    def table(name, header, row, separator=",", rows=range(N), **options):
        lines = [separator.join(header)] + [separator.join(row(index)) for index in rows]
        return write(at(name), "\n".join(lines) + "\n", **options)

    def quoted(*names):
        return [f'"{name}"' for name in names]

    def logits(row):
        return [number(value) for value in Z[row]]

    def row_name(row):
        return f'"{row + 1}"'

    def with_label(row):
        return [*logits(row), f"{Y[row]}"]

    def with_name(row):
        return [*logits(row), f'"{Y_NAMES[row]}"']

    numbered = quoted("V1", "V2", "V3")
    named = quoted(*NAMES, "label")
    infinite = np.where(Z == Z.min(1, keepdims=True), -np.inf, Z)
    infinite[np.arange(N), Y] = Z[np.arange(N), Y]
    cases = [
        right("write.csv(m)", arguments(table("m.csv", ['""', *numbered], lambda row: [row_name(row), *logits(row)]), y)),
        right("write.csv, label", arguments(table("label.csv", ['""', *numbered, '"label"'], lambda row: [row_name(row), *with_label(row)]))),
        right("write.csv(row.names = FALSE)", arguments(table("plain.csv", named, with_label))),
        right("write.csv, a factor", arguments(table("factor.csv", named, with_name))),
        right("write.csv, row names dropped", arguments(table("rows.csv", ['""', *named], lambda row: [row_name(row), *with_name(row)]), None, "--drop=")),
        right("write.csv, logical", arguments(table("logical.csv", quoted("no", "yes", "label"), lambda row: [*logits(row)[:2], "TRUE" if Y2[row] else "FALSE"])), Z2, Y2),
        right("write.csv(labels)", arguments(at("m.csv"), table("x.csv", quoted("", "x"), lambda row: [row_name(row), f"{Y[row]}"]))),
        right("write.csv, Inf", arguments(table("inf.csv", named, lambda row: [*(number(value).replace("inf", "Inf") for value in infinite[row]), f"{Y[row]}"])), infinite),
        right("fwrite", arguments(table("fwrite.csv", [*NAMES, "label"], lambda row: [*logits(row), Y_NAMES[row]]))),
        right("predict(type = \"prob\")", arguments(table("caret.csv", quoted("p.cat", "p.dog", "p.ox", "label"), with_name))),
        right("write.table(sep = \"\\t\", row.names = FALSE)", arguments(table("table.tsv", named, with_label, "\t"))),
        right("Latin-1", arguments(table("latin.csv", quoted("chat", "chien", "bête", "label"), with_label, encoding="latin-1"))),
        refused("write.csv, row names", arguments(table("names.csv", ['""', *named], lambda row: [row_name(row), *with_name(row)])), "names.csv", "the column without a name", "--drop ''"),
        refused("write.csv2", arguments(table("csv2.csv", named, lambda row: [*(value.replace(".", ",") for value in logits(row)), f"{Y[row]}"], ";")), "csv2.csv", "column cat", "decimal comma"),
        refused("write.table", arguments(table("table.csv", named, lambda row: [row_name(row), *with_label(row)], " ")), "table.csv", "separated by commas, semicolons or tabs"),
        refused("write.table(sep = \",\")", arguments(table("short.csv", named, lambda row: [row_name(row), *with_label(row)])), "short.csv", "5 fields, expected 4"),
        refused("NA", arguments(table("na.csv", named, lambda row: ["NA" if row == 7 else value for value in with_label(row)])), "na.csv", "row 7", "column cat", "NA"),
        refused("NA as label", arguments(table("nay.csv", named, lambda row: [*logits(row), "NA" if row == 7 else f"{Y[row]}"])), "nay.csv", "row 7", "column label", "NA"),
        refused("as.integer(factor)", arguments(table("one.csv", named, lambda row: [*logits(row), f"{Y[row] + 1}"])), "one.csv", "counted from 0"),
        refused("Excel's sep=", arguments(write(at("sep.csv"), "sep=;\n" + Path(at("plain.csv")).read_text().replace(",", ";"))), "sep.csv"),
        refused("RDS", arguments(write(at("z.rds"), "")), "ends in '.rds'"),
    ]  # fmt: skip
    return cases


def safetensors_files(at):
    def save(name, metadata=None, **tensors):
        safetensors.numpy.save_file(tensors, at(name), metadata)
        return at(name)

    np.save(at("y.npy"), Y)
    y = at("y.npy")
    images = np.ascontiguousarray(Z.reshape(2, 4, 3, K).transpose(0, 3, 1, 2))
    cases = [
        right("float64", arguments(save("f8.safetensors", logits=Z, label=Y))),
        right("float32", arguments(save("f4.safetensors", logits=Z.astype("f4"), label=Y.astype("i4")))),
        right("float16", arguments(save("f2.safetensors", logits=Z.astype("f2"), label=Y.astype("u1")))),
        right("metadata", arguments(save("m.safetensors", {"step": "3"}, logits=Z, label=Y))),
        right("odd positions", arguments(save("odd.safetensors", a=np.zeros(3, "u1"), logits=Z.astype("f4"), z=Y), at("odd.safetensors") + ":z")),
        right("names", arguments(save("names.safetensors", a=Z, b=Z * 2, y=Y) + ":a", at("names.safetensors") + ":y")),
        right("labels in another format", arguments(at("f4.safetensors"), y)),
        right("truth values", arguments(save("b.safetensors", logits=Z2.copy(), label=Y2 == 1)), Z2, Y2),
        right("images", arguments(save("images.safetensors", logits=images, label=Y.reshape(2, 4, 3)))),
        refused("several", arguments(save("several.safetensors", a=Z, b=Z * 2, y=Y)), "several.safetensors", "FILE:NAME"),
        refused("no labels", arguments(save("none.safetensors", logits=Z)), "none.safetensors"),
        refused("no such tensor", arguments(at("f4.safetensors") + ":z"), "no tensor 'z'"),
        refused("weights of a layer", arguments(save("w.safetensors", weight=Z[:8].copy(), bias=Z[0].copy()), y), "24 labels, expected 8"),
    ]  # fmt: skip
    return cases


WORDS = "ant bee cat cow crab crow deer dog dove duck eel elk fly fox frog goat hare hawk hen ibis \
jay kiwi lark lion lynx mole moth mule newt orca owl ox pig pony ram rat seal swan toad wolf".split()


@dataclass
class Random:
    """A random data set, and how its table calls the columns and spells the labels."""

    z: np.ndarray
    y: np.ndarray
    names: list[str]
    order: np.ndarray
    label: str
    spelling: str

    def logits(self):
        """The columns by their names, in the order that the table has them in."""
        return {self.names[k]: self.z[:, k] for k in self.order}

    def labels(self):
        """The labels as a table has them."""
        names = np.array(self.names)
        return {
            "integers": self.y,
            "small": self.y.astype("i2"),
            "floats": self.y.astype("f8"),
            "names": names[self.y],
            "texts": np.array([str(label) for label in self.y]),
        }[self.spelling]

    def frame(self):
        return pd.DataFrame({**self.logits(), self.label: self.labels()})


def random_data():
    k = int(rng.choice([2, 3, 5, 10, 11, 26, 40, 150]))
    n = int(rng.choice([1, 2, 7, 30, 100, 301]))
    dtype = rng.choice(["f2", "f4", "f8"])
    z = (rng.normal(size=(n, k)) * rng.choice([0.1, 1, 10])).astype(dtype)
    y = rng.integers(0, k, n)
    first = int(rng.integers(0, 2))
    namings = [
        [f"class_{index}" for index in range(first, k + first)],
        [f"V{index}" for index in range(first, k + first)],
        [f"p({index:03})" for index in range(k)],
        [str(index) for index in range(k)],
        [f"logit_{word}" for word in WORDS[:k]],
        WORDS[:k],
    ]
    naming = int(rng.integers(0, 6 if k <= len(WORDS) else 4))
    named = naming >= 4
    # Numbers order the classes; without any, the table does.
    order = np.arange(k) if named else rng.permutation(k)
    spellings = ["integers", "small", "floats", "texts"] + ["names"] * 3 * named
    label = rng.choice(["label", "target", "Labels", "y_true", "answer"])
    return Random(z, y, namings[naming], order, str(label), str(rng.choice(spellings)))


def printed(z):
    """The numbers that the shortest decimals of these numbers are."""
    return np.array([[float(str(value)) for value in row] for row in z])


def in_npy(data, at, file):
    z, y = data.z, data.y.astype(rng.choice(["u1", "i2", "i4", "i8", ">i4"]))
    z = z.astype(z.dtype.newbyteorder(rng.choice(["<", ">"])))
    np.save(at(file + ".npy"), np.asfortranarray(z) if rng.random() < 0.5 else z)
    np.save(at(file + "_y.npy"), y)
    return arguments(at(file + ".npy"), at(file + "_y.npy")), data.z


def in_npz(data, at, file):
    save = np.savez_compressed if rng.random() < 0.5 else np.savez
    save(at(file + ".npz"), **{"logits": data.z, data.label: data.y})
    return arguments(at(file + ".npz")), data.z


def in_safetensors(data, at, file):
    safetensors.numpy.save_file({"z": data.z, data.label: data.y}, at(file + ".safetensors"))
    return arguments(at(file + ".safetensors")), data.z


def in_numpy_text(data, at, file):
    np.savetxt(at(file + ".csv"), data.z, delimiter=rng.choice([",", ";", "\t"]))
    np.save(at(file + "_y.npy"), data.y)
    return arguments(at(file + ".csv"), at(file + "_y.npy")), data.z


def of_table(data, path):
    """The arguments for a table with its labels, whose column may have to be named."""
    named = data.label == "answer" or rng.random() < 0.3
    return arguments(path, f"{path}:{data.label}" if named else None)


def in_pandas_csv(data, at, file):
    path = at(file + str(rng.choice([".csv", ".csv.gz", ".tsv"])))
    data.frame().to_csv(path, index=False, sep=str(rng.choice([",", ";", "\t"])))
    return of_table(data, path), printed(data.z)


def in_polars_csv(data, at, file):
    data.z = data.z.astype("f8" if data.z.dtype == "f2" else data.z.dtype)
    table = pl.DataFrame(dict(data.frame()))
    table.write_csv(at(file + ".csv"), separator=str(rng.choice([",", ";", "\t"])))
    return of_table(data, at(file + ".csv")), printed(data.z)


def in_pandas_parquet(data, at, file):
    frame = data.frame()
    if data.spelling in ("names", "texts") and rng.random() < 0.5:
        frame[data.label] = frame[data.label].astype("category")
    frame.to_parquet(at(file + ".parquet"))
    return of_table(data, at(file + ".parquet")), data.z


def in_polars_parquet(data, at, file):
    table = pl.DataFrame(dict(data.frame()))
    codec = str(rng.choice(["zstd", "lz4", "snappy", "gzip", "uncompressed"]))
    table.write_parquet(at(file + ".parquet"), compression=codec, row_group_size=50)
    return of_table(data, at(file + ".parquet")), data.z


def in_lists(data, at, file):
    number = pa.from_numpy_dtype(data.z.dtype)
    kinds = [pa.list_(number), pa.large_list(number), pa.list_(number, data.z.shape[1])]
    labels = data.y if data.spelling == "names" else data.labels()
    logits = pa.array([list(row) for row in data.z], kinds[rng.integers(0, 3)])
    table = pa.table({"id": pa.array(range(len(labels))), "z": logits, data.label: labels})
    pq.write_table(table, at(file + ".parquet"), row_group_size=int(rng.choice([1, 40, 1000])))
    path = at(file + ".parquet")
    return arguments(path, f"{path}:{data.label}"), data.z


def in_duckdb(data, at, file):
    data.z = data.z.astype("f8" if data.z.dtype == "f2" else data.z.dtype)
    connection = duckdb.connect()
    connection.register("t", data.frame())
    path = at(file + str(rng.choice([".parquet", ".csv"])))
    connection.execute(f"COPY t TO '{path}'")
    return of_table(data, path), printed(data.z) if path.endswith("csv") else data.z


FORMATS = [
    in_npy,
    in_npz,
    in_safetensors,
    in_numpy_text,
    in_pandas_csv,
    in_polars_csv,
    in_pandas_parquet,
    in_polars_parquet,
    in_lists,
    in_duckdb,
]


def random_files(at):
    cases = []
    for number in range(RANDOM):
        form, data = FORMATS[number % len(FORMATS)], random_data()
        given, z = form(data, at, f"{number}")
        how = f"{form.__name__} {data.z.shape} {data.z.dtype} {data.label} {data.spelling}"
        cases.append(right(f"{number} {how} {data.names[0]}", given, z, data.y))
    return cases


def disagreements(xent, case, folder):
    """What the program says about a case that it should not say."""
    command = [xent, "eval", "--quiet", *case.arguments, "--out", folder]
    run = subprocess.run(command, capture_output=True, text=True)
    if case.numbers is None:
        missing = [part for part in case.says if part not in run.stderr]
        if run.returncode == 2 and not missing:
            return []
        return [f"exit {run.returncode}, expected 2 and {missing} in: {run.stderr}"]
    if run.returncode != 0:
        return [f"exit {run.returncode}: {run.stderr}"]
    report = json.loads((Path(folder) / "report.json").read_text())
    found = report["models"][0]["raw"]
    return [
        f"{name} {found[name]['value']}, expected {number}"
        for name, number in case.numbers.items()
        if abs(found[name]["value"] - number) > TOLERANCE * max(1, abs(number))
    ]


GROUPS = {
    "NumPy": numpy_files,
    "pandas": pandas_files,
    "polars": polars_files,
    "DuckDB": duckdb_files,
    "pyarrow": pyarrow_files,
    "R": r_files,
    "safetensors": safetensors_files,
    "random": random_files,
}


def main(xent):
    cases_run, failures = 0, []
    for group, files in GROUPS.items():
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
            cases = files(lambda name: f"{folder}/{name}")
            reports = [f"{folder}/report {number}" for number in range(len(cases))]
            found = list(pool.map(lambda *each: disagreements(xent, *each), cases, reports))
        wrong = [(case, said) for case, said in zip(cases, found) if said]
        refusals = sum(case.numbers is None for case in cases)
        print(
            f"{group:12} {len(cases) - refusals:4} with numbers, {refusals:3} refused, "
            f"{len(wrong):3} disagree"
        )
        cases_run += len(cases)
        failures += [(group, *each) for each in wrong]
    for group, case, said in failures:
        print(f"\n{group}, {case.name}: xent eval {' '.join(case.arguments)}")
        print("\n".join(f"  {line.strip()}" for line in said))
    print(f"{cases_run} cases, {len(failures)} disagree")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1]).resolve())))
