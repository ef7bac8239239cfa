"""The code stays linted, formatted and typed; the repository names no host of a package index."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 420


@pytest.mark.parametrize(
    "arguments",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "pipeline", "tests", "data", "benchmarks"],
        ["mypy", "pipeline/brainloom"],
    ],
)
def test_tools_are_content(arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def tracked() -> list[Path]:
    """Text files under version control."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [
        ROOT / name
        for name in names
        if name.endswith((".py", ".md", ".yaml", ".toml", ".txt", ".smk", ".cff"))
    ]


def test_no_file_names_a_package_index_host():
    hosts = re.compile("|".join(("pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.org")))
    assert not [
        path.name for path in tracked() if path.is_file() and hosts.search(path.read_text(errors="ignore"))
    ]


def test_every_module_is_one_subject_long():
    long = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "pipeline").rglob("*.py")}
    assert not {name: n for name, n in long.items() if n > LONGEST}


# From the ground up; a module may import from its own floor and those below.
FLOORS = (
    ("core",),
    ("store", "io", "datasets"),
    ("integrate", "noise", "coupling", "delays"),
    ("engine",),
    ("rollout",),
    ("run_plan", "runs", "reverse", "forward", "checkpoints", "stiffness"),
    ("trajectories",),
    ("models", "modules"),
    ("conduction", "module_network", "network"),
    ("observe",),
    ("arguments", "simulate", "substitute", "sweep", "sweep_result"),
    ("linear",),
    ("objectives", "analysis", "viz"),
    ("fit",),
    ("cohort",),
    ("report",),
    ("steps", "cli"),
)


def test_imports_point_down():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    package = ROOT / "pipeline" / "brainloom"
    upward = []
    for path in package.rglob("*.py"):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            # `from brainloom import __version__` is all that is taken from the package itself
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("brainloom."):
                there = node.module.split(".")[1]
                upward += [(path.name, node.module)] if floor[there] > floor[here] else []
    assert not upward
