"""The Python on the pages of docs/guide, in docs/coming-from.md and in the READMEs.

The blocks of a page run in order, in one namespace. On the pages of the guide, each `print(…)  # …` prints what its
comment says. test_recipes.py runs docs/guide/pytorch-recipes.md.
"""

import re
from pathlib import Path

import pytest
import torch

from pages import GUIDE, RECIPES, ROOT, blocks, run

OTHERS = ["README.md", "crates/xent-python/README.md", "docs/coming-from.md"]
PAGES = [*GUIDE, *(ROOT / name for name in OTHERS)]


def name(page):
    return str(page.relative_to(ROOT))


WITH_PYTHON = [page for page in PAGES if any(block[0] == "python" for block in blocks(page))]

# Python runs here. crates/xent-spec tests Rust. Command lines and Cargo.toml are not run.
LANGUAGES = {"python", "rust", "console", "toml"}


def given(page: Path) -> dict[str, object]:
    """What a reader of README.md brings along. The pages of the guide make all that they use."""
    if page != ROOT / "README.md":
        return {}
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(8, 10, generator=generator, requires_grad=True)
    return {"logits": logits, "targets": torch.randint(10, (8,), generator=generator)}


@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page != RECIPES], ids=name)
def test_python_runs(page, capsys):
    names = given(page)
    for language, line, code in blocks(page):
        if language != "python":
            continue
        run(page, line, code, names)
        printed = capsys.readouterr().out.splitlines()
        if page in GUIDE:
            said = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
            assert printed == said, f"{page}, the block at line {line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_goes_untested(page):
    for language, line, _ in blocks(page):
        assert language in LANGUAGES, f"{page}, line {line}: {language!r}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page}: {target}"
