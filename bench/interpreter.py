"""Runs a program of this folder under the interpreter that `bench/install` made."""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PYTHON = FOLDER / ".venv" / "bin" / "python"


def enter() -> None:
    """Starts the program anew under the virtual environment's interpreter, unless it runs there already."""
    if Path(sys.prefix) == FOLDER / ".venv":
        return
    if not PYTHON.exists():
        sys.exit("bench/.venv is missing: run bench/install, which makes it and builds the workers")
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
