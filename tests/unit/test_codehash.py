"""The code hash moves with the code that a step runs, and with nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import brainloom
from brainloom.core.codehash import code_hash, modules_behind

SOURCES = {
    "__init__.py": '"""Top."""\n',
    "steps/__init__.py": "",
    "steps/fit.py": '"""Fit."""\nimport toy.fit.engine as engine\n\ndef main():\n    from toy.io import files\n    return files\n',
    "steps/report.py": "from importlib import import_module\npages = import_module('toy.report.pages')\n",
    "fit/__init__.py": "",
    "fit/engine.py": "from ..linear import solve\nfrom . import start\n\nSTEPS = 3\n",
    "fit/start.py": "import numpy as np\n\nx = 1\n",
    "linear/__init__.py": "from toy.linear.lyapunov import solve\n",
    "linear/lyapunov.py": "import toy\n\ndef solve(a):\n    return toy.core.maths.half(a)\n",
    "core/__init__.py": "",
    "core/maths.py": "def half(a):\n    return a / 2\n",
    "io/__init__.py": "",
    "io/files.py": "names = ['a']\n",
    "report/__init__.py": "",
    "report/pages.py": "title = 'a'\n",
    "report/templates/page.html": "<p>hello</p>\n",
    "unrelated.py": "y = 2\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def change(root: Path, name: str, old: str, new: str) -> None:
    path = root / "toy" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_reaches_every_kind_of_import(root):
    assert modules_behind("toy.steps.fit", root=root) == [
        "toy",
        "toy.core",
        "toy.core.maths",  # as an attribute of the imported package
        "toy.fit",
        "toy.fit.engine",
        "toy.fit.start",  # from . import
        "toy.io",
        "toy.io.files",  # inside a function
        "toy.linear",
        "toy.linear.lyapunov",  # through the package's __init__
        "toy.steps",
        "toy.steps.fit",
    ]
    assert "toy.report.pages" in modules_behind("toy.steps.report", root=root)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("steps/fit.py", "return files", "return None"),
        ("fit/engine.py", "STEPS = 3", "STEPS = 4"),
        ("fit/start.py", "x = 1", "x = 1.0"),
        ("linear/lyapunov.py", "half(a)", "half(-a)"),
        ("core/maths.py", "a / 2", "a * 0.5"),
        ("io/files.py", "'a'", "'b'"),
        ("linear/__init__.py", "import solve", "import solve as solve_all"),
    ],
)
def test_a_change_in_reached_code_changes_the_hash(root, name, old, new):
    before = code_hash("toy.steps.fit", root=root)
    change(root, name, old, new)
    assert code_hash("toy.steps.fit", root=root) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("steps/fit.py", '"""Fit."""', '"""Fits a model."""'),
        ("steps/fit.py", "def main():\n", "def main():\n    '''Run.'''\n"),
        ("fit/engine.py", "STEPS = 3", "# three steps are enough\n\n\nSTEPS  =  (3)"),
        ("unrelated.py", "y = 2", "y = 3"),
        ("steps/report.py", "pages", "page"),
        ("report/templates/page.html", "hello", "goodbye"),
    ],
)
def test_comments_docstrings_layout_and_other_code_do_not_count(root, name, old, new):
    before = code_hash("toy.steps.fit", root=root)
    change(root, name, old, new)
    assert code_hash("toy.steps.fit", root=root) == before


def test_data_files_of_reached_packages_count(root):
    before = code_hash("toy.steps.report", root=root)
    change(root, "report/templates/page.html", "hello", "goodbye")
    assert code_hash("toy.steps.report", root=root) != before


def test_a_module_that_moves_counts(root):
    before = code_hash("toy.steps.fit", root=root)
    (root / "toy" / "io" / "files.py").unlink()
    assert code_hash("toy.steps.fit", root=root) != before


def test_unknown_module_and_package(root):
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        code_hash("toy.steps.nothing", root=root)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        code_hash("no_such_package.steps.fit")


def test_the_same_in_another_process_and_nothing_is_imported():
    code = (
        "import sys; from brainloom.core.codehash import code_hash\n"
        "print(code_hash('brainloom.steps._common'))\n"
        "assert not {'numpy', 'jax', 'xarray', 'brainloom.store'} & set(sys.modules), 'imported'\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == code_hash("brainloom.steps._common")
    assert "brainloom.store.reader" in modules_behind("brainloom.steps._common")


def test_inside_the_package_names_come_from_the_module_that_defines_them():
    """``from brainloom import X`` of anything but a module would hide what X needs from the hash."""
    package = Path(brainloom.__file__).parent
    parts = {path.stem if path.is_file() else path.name for path in package.iterdir()}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "brainloom":
                for alias in node.names:
                    assert alias.name in parts | {"__version__"}, (
                        f"{path}: from brainloom import {alias.name}"
                    )


def test_import_brainloom_is_light():
    code = (
        "import sys, brainloom\n"
        "assert not {'numpy', 'jax', 'xarray', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert brainloom.__version__[0].isdigit()\n"
        "assert 'store' in dir(brainloom)\n"
        "assert callable(brainloom.store.read_dataset)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = brainloom.nothing_like_this
