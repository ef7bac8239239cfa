"""Every python block of the pages about the library runs, one after the other, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> list[str]:
    """Python blocks, padded so that a traceback names the line of the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.S | re.M)
    return ["\n" * text[: one.start(1)].count("\n") + one.group(1) for one in found]


@pytest.mark.parametrize(
    ("page", "n_blocks"),
    [
        ("howto-simulate-and-fit.md", 8),
        ("howto-eeg-meg.md", 4),
        ("howto-fitting.md", 6),
        ("howto-fmri-images.md", 3),
        ("howto-identifiability.md", 3),
        ("howto-parameters-and-sweeps.md", 4),
        ("howto-signals.md", 4),
        ("howto-objectives.md", 4),
        ("library.md", 1),
    ],
)
def test_snippets_run(page, n_blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = blocks(page)
    assert len(snippets) == n_blocks
    names: dict = {}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), names)
    plt.close("all")
    if page.startswith("howto-simulate"):
        from brainloom import FitResult

        # the file that the page writes is the fit that it describes
        assert np.isclose(FitResult.load(tmp_path / "fit.npz").best_params["a"], 1.5, atol=0.05)
