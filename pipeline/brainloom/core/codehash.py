"""A hash of the code behind a workflow step, so that a change in the package reruns what it touches."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_CODE_SUFFIXES = {".py", ".pyc", ".pyi", ".so"}


def code_hash(module: str, *, root: Path | None = None) -> str:
    """
    SHA-256 of the code of a module and of all it imports from its own package.

    Nothing is imported: the sources are parsed. Imports inside functions count, and so do the ``__init__``
    of every package on the way and the data files (templates, tables) in the folders of those packages
    below the top one. Comments, docstrings and layout do not count.

    Parameters
    ----------
    module : str
        Full name, such as ``"brainloom.steps.fit"``.
    root : pathlib.Path, optional
        Folder that holds the top package; found on the import path if not given.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ModuleNotFoundError
        There is no such module.
    SyntaxError
        A source cannot be parsed.
    """
    package = module.split(".")[0]
    folder = (root / package) if root is not None else _find(package)
    digest = hashlib.sha256()
    for name, path in sorted(_closure(module, folder).items()):
        stat = path.stat()
        source_digest, _ = _parsed(path, stat.st_mtime_ns, stat.st_size)
        digest.update(f"{name}\n{source_digest}\n".encode())
        if path.name == "__init__.py" and path.parent != folder:
            for data in _data_files(path.parent):
                content = hashlib.sha256(data.read_bytes()).hexdigest()
                digest.update(f"{data.relative_to(folder).as_posix()}\n{content}\n".encode())
    return digest.hexdigest()


def modules_behind(module: str, *, root: Path | None = None) -> list[str]:
    """
    Names of the modules whose code `code_hash` covers, sorted.

    Parameters
    ----------
    module, root
        As in `code_hash`.
    """
    package = module.split(".")[0]
    return sorted(_closure(module, (root / package) if root is not None else _find(package)))


@lru_cache(maxsize=8)
def _find(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No package named {package!r}", name=package)
    return Path(next(iter(spec.submodule_search_locations)))


def _closure(module: str, folder: Path) -> dict[str, Path]:
    """Source file of the module and of everything it reaches, by name."""
    if _source(module, folder) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name, folder)
        if path is None or name in found:
            continue
        found[name] = path
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # importing a module runs its package first
        stat = path.stat()
        _, mentioned = _parsed(path, stat.st_mtime_ns, stat.st_size)
        base = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for level, target in mentioned:
            waiting.extend(_candidates(level, target, base, folder))
    return found


def _source(module: str, folder: Path) -> Path | None:
    """File of a module of the package, or None if there is none."""
    parts = module.split(".")
    if parts[0] != folder.name:
        return None
    path = folder.joinpath(*parts[1:])
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if len(parts) > 1 and file.is_file() else None


def _candidates(level: int, target: str, base: str, folder: Path) -> list[str]:
    """The module that an import names: the longest prefix of it that is one."""
    if level:
        parts = base.split(".")
        target = ".".join([*parts[: len(parts) - level + 1], *filter(None, [target])])
    parts = target.split(".")
    if parts[0] != folder.name:
        return []
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if _source(name, folder) is not None:
            return [name]
    return []


@lru_cache(maxsize=1024)
def _parsed(path: Path, mtime_ns: int, size: int) -> tuple[str, tuple[tuple[int, str], ...]]:
    """Digest of a source without docstrings, and what it imports as (level, dotted name)."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    mentioned: set[tuple[int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            mentioned.update((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = f"{node.module}." if node.module else ""
            mentioned.update((node.level, start + alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            dotted = _dotted(node)  # `import brainloom`, then `brainloom.fit.fitter`
            if dotted:
                mentioned.add((0, dotted))
        elif isinstance(node, ast.Call) and _is_import_module(node.func):
            mentioned.update(
                (0, a.value) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )
    for node in ast.walk(tree):
        _drop_docstring(node)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(sorted(mentioned))


def _dotted(node: ast.Attribute) -> str | None:
    parts = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    return ".".join([inner.id, *reversed(parts)]) if isinstance(inner, ast.Name) else None


def _is_import_module(func: ast.expr) -> bool:
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    return name in ("import_module", "__import__")


def _drop_docstring(node: ast.AST) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:]


def _data_files(folder: Path) -> list[Path]:
    """Files that are no code, in a package's folder and in its folders that are no packages."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.name != "__pycache__" and not (entry / "__init__.py").exists():
                found += _data_files(entry)
        elif entry.suffix not in _CODE_SUFFIXES and not entry.name.startswith("."):
            found.append(entry)
    return found
