"""The pages of docs/guide, and the blocks of code on a page."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
PADDING = ROOT / "docs" / "guide" / "padding-and-denominators.md"
RECIPES = ROOT / "docs" / "guide" / "pytorch-recipes.md"


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Language, line and text of each fenced block."""
    language, start, lines = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, start, lines = line[3:], number, []
        else:
            yield language, start, "\n".join(lines) + "\n"
            language = None
    assert language is None, f"{page}: the block at line {start} has no end"


def run(page: Path, line: int, code: str, names: dict[str, object]) -> None:
    """Runs a block; tracebacks have the page's lines."""
    exec(compile("\n" * line + code, str(page), "exec"), names)
