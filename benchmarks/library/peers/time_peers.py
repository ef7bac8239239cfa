"""
Time the works in other packages, each in an environment that is made for it with pinned versions.

``python benchmarks/library/peers/time_peers.py [--only W1] [--peers vbjax]`` prints a table; `run.py` uses `time_peers`.
The environments stay in ``benchmarks/library/.peers``, which git ignores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".peers"
INSTALL_S, RUN_S = 360, 600
PINS = {
    "brainmass": ("brainmass==0.1.1", "jax==0.9.2"),
    "vbjax": ("vbjax==0.0.19", "jax==0.9.2", "tqdm"),
    "numba": ("numba==0.68.1", "numpy==2.4.6"),
    "neurolib": ("neurolib==0.6", "numba==0.68.1", "setuptools<81"),
    "torch": ("torch==2.13.0", "numpy==2.4.6"),
    "tvb": ("tvb-library==2.10.0", "setuptools<81"),
    "tvboptim": ("tvboptim==0.4.0", "jax==0.9.2"),
}


def environment(peer: str) -> Path:
    """
    The Python of a peer, installed if it is not there.

    Raises
    ------
    RuntimeError
        It could not be installed; the message is the end of what pip said.
    """
    python = FOLDER / peer / "bin" / "python"
    done = FOLDER / peer / "installed.json"
    if done.exists() and json.loads(done.read_text()) == list(PINS[peer]):
        return python
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    if not python.exists():
        venv.create(FOLDER / peer, with_pip=True)
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS[peer]]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not installed within {INSTALL_S} s") from None
    if pip.returncode:
        raise RuntimeError(f"could not be installed: {pip.stderr.strip()[-400:]}")
    done.write_text(json.dumps(list(PINS[peer])))
    return python


def time_peers(names: list[str], peers: list[str] | None = None) -> dict[str, Any]:
    """
    Seconds of every work in every peer, and their ratio to C, timed just before and after it.

    Returns
    -------
    dict
        By peer: ``works`` by name with ``wall_s``, ``over_c_wall`` and ``how`` the work was expressed, or ``cannot``
        with the reason; ``missing`` where the peer could not be installed.
    """
    sys.path.insert(0, str(HERE.parent))
    import limits

    found: dict[str, Any] = {}
    for peer in peers or list(PINS):
        try:
            python = environment(peer)
        except RuntimeError as error:
            found[peer] = {"missing": str(error)}
            continue
        one: dict[str, Any] = {"pins": list(PINS[peer]), "works": {}}
        for name in names:
            repeats = 1 if name in ("W2-400", "W5") else 5
            before = limits.limit(name, repeats=repeats)
            ran = _run(python, peer, name)
            c = 0.5 * (before + limits.limit(name, repeats=repeats))
            one["version"] = ran.get("version", one.get("version"))
            result = ran["works"][name]
            if "wall_s" in result:
                result |= {"c_wall_s": round(c, 4), "over_c_wall": round(result["wall_s"] / c, 1)}
            one["works"][name] = result | {"load": round(os.getloadavg()[0], 1)}
            print(f"{peer:10}{name:7}", result.get("over_c_wall", result), flush=True)
        found[peer] = one
    return found


def _run(python: Path, peer: str, name: str) -> dict[str, Any]:
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "PYTHON"))
    }
    command = [str(python), str(HERE / f"with_{peer}.py"), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False, env=clean)
    except subprocess.TimeoutExpired:
        return {"works": {name: {"failed": f"took more than {RUN_S} s"}}}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"works": {name: {"failed": done.stderr.strip()[-400:]}}}
    return json.loads(lines[-1])


def main() -> None:
    """Time what was asked for and keep it beside the other results."""
    sys.path.insert(0, str(HERE.parent))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", default=["W1", "W2", "W2-400", "W4a", "W5"])
    parser.add_argument("--peers", nargs="+", choices=list(PINS))
    arguments = parser.parse_args()
    result = HERE.parents[1] / "results" / "library.json"
    for peer in arguments.peers or list(PINS):
        measured = time_peers(arguments.only, [peer])[peer]
        kept = json.loads(result.read_text()) if result.exists() else {}
        old = kept.setdefault("peers", {}).get(peer, {})
        measured["works"] = old.get("works", {}) | measured.get("works", {})
        kept["peers"][peer] = measured
        result.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    main()
