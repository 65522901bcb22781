"""Makes the two files of handwritten digits that the program carries.

    pip install scikit-learn==1.9.1 numpy
    python make_digits.py

The data are the test part of the "Optical Recognition of Handwritten Digits" set as scikit-learn's `load_digits` carries it:
1797 images of 8 x 8 pixels with values 0..16, and their labels. They are written in the IDX format of the MNIST files,
so that the program has one reader for both. The output is the same, byte for byte, every time (no name, no date in the gzip header),
but for differences between versions of zlib.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def write_idx(path: Path, values: np.ndarray) -> None:
    """One IDX file of unsigned bytes: magic (0, 0, type 8, number of dimensions), the dimensions, the values in C order."""
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(header + values.astype(np.uint8).tobytes())


def main() -> None:
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8) and digits.images.min() == 0 and digits.images.max() == 16
    here = Path(__file__).parent
    write_idx(here / "digits-images.idx3-ubyte.gz", digits.images)
    write_idx(here / "digits-labels.idx1-ubyte.gz", digits.target)


if __name__ == "__main__":
    main()
