"""
What hand-written C needs for the works: a lower limit to hold every system against.

The programs in ``limits/`` are plain loops, compiled for the machine when they are first needed, float32 and one
thread, called in this process. ``python benchmarks/library/limits.py`` checks them against numpy and prints seconds.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain
import works
from works import HopfWork, MPRWork, RWWWork

FOLDER = Path(__file__).parent / "limits"
SOURCES = ("hopf.c", "hopf_sets.c", "mpr.c", "rww.c")
FLAGS = ("-std=c11", "-O3", "-march=native", "-ffast-math", "-fopenmp-simd", "-fPIC")
NOISE = {"none": 0, "gaussian": 1, "weak": 2}
SETS, DELAY_BLOCK, SUB = 16, 15, 10  # as in hopf_sets.c, mpr.c and rww.c
CHECKPOINT = 200  # steps between the states that the gradient keeps

_FLOATS = ctypes.POINTER(ctypes.c_float)


class _Hopf(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("dt", "k", "beta", "sigma")] + [
        (name, _FLOATS) for name in ("a", "w")
    ]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("dt", "beta", "sigma")] + [
        (name, _FLOATS) for name in ("k", "a", "w")
    ]


class _MPR(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("dt", "tau", "delta", "eta", "j", "i", "k")]


class _RWW(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_float) for name in ("dt", "k", "sigma", "a", "b", "d", "gamma", "tau", "j", "i")
    ] + [("w", _FLOATS)]


class _Vessels(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_float) for name in ("kappa", "g", "t", "alpha", "rho", "v0", "k1", "k2", "k3")
    ]


@functools.cache
def build(n_regions: int = 80) -> ctypes.CDLL:
    """
    Compile and load the programs for a number of regions (a multiple of 40; W2 takes any multiple of 4).

    Raises
    ------
    RuntimeError
        gcc is missing or fails.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("gcc was not found; install it to compile the C limits")
    if n_regions % 40:
        raise ValueError(f"n_regions is {n_regions}; the C limits need a multiple of 40")
    text = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    machine = _run([compiler, *FLAGS, "-Q", "--help=target"])
    key = hashlib.sha256(text + repr((FLAGS, n_regions, machine)).encode()).hexdigest()[:16]
    library = FOLDER / "build" / f"limits-{key}.so"
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            objects = [str(Path(folder) / f"{source}.o") for source in SOURCES]
            for source, made in zip(SOURCES, objects, strict=True):
                _run([compiler, *FLAGS, f"-DREGIONS={n_regions}", "-c", str(FOLDER / source), "-o", made])
            # Linked without -ffast-math, which would switch denormals off in the whole process.
            linked = str(Path(folder) / library.name)
            _run([compiler, "-shared", "-o", linked, *objects, "-lm"])
            Path(linked).replace(library)
    loaded = ctypes.CDLL(str(library))
    for name in ("hopf_noise", "hopf_run", "hopf_sets_run", "mpr_run", "rww_noise", "rww_run"):
        getattr(loaded, name).restype = None
    loaded.hopf_gradient.restype = loaded.rww_gradient.restype = ctypes.c_double
    return loaded


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _floats(values: np.ndarray | float, shape: tuple[int, ...] | None = None) -> np.ndarray:
    values = np.asarray(values, dtype=np.float32)
    return np.ascontiguousarray(values if shape is None else np.broadcast_to(values, shape))


def _at(array: np.ndarray) -> ctypes.Array:
    return array.ctypes.data_as(_FLOATS)


def draws(
    n_steps: int, n_regions: int = 80, *, noise: str = "gaussian", seed: int = 0, set_: int = 0
) -> np.ndarray:
    """The unit-variance increments of a run: (step, 2, region), of x and of y; those of W5 by the number of the set."""
    out = np.empty((n_steps, 2, n_regions), dtype=np.float32)
    build(n_regions).hopf_noise(NOISE[noise], ctypes.c_uint32(seed), ctypes.c_uint32(set_), n_steps, _at(out))
    return out


def hopf(work: HopfWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], np.ndarray]:
    """
    W1 or, with several sets, W5: a call without arguments that runs it.

    It returns x as (sample, region) or (set, sample, region), in the same memory each time.
    """
    n, samples = work.n_regions, work.n_steps // work.keep
    library, weights, a, w = build(n), _floats(work.weights), _floats(work.a), _floats(work.w)
    start = [_floats(value, (n,)) for value in (work.x0, work.y0)]
    many = a.ndim == 2
    if many and len(a) % SETS:
        raise ValueError(f"there are {len(a)} sets; the C limit takes a multiple of {SETS}")
    kept = np.empty((len(a), samples, n) if many else (samples, n), dtype=np.float32)
    if many:
        k = _floats(work.k, (len(a),))
        model = _Sets(work.dt, work.beta, work.sigma, _at(k), _at(a), _at(w))
    else:
        model = _Hopf(work.dt, work.k, work.beta, work.sigma, _at(a), _at(w))

    def run() -> np.ndarray:
        rest = (
            _at(weights),
            *map(_at, start),
            NOISE[noise],
            ctypes.c_uint32(seed),
            work.n_steps,
            work.keep,
            _at(kept),
        )
        if many:
            library.hopf_sets_run(model, len(a), *rest)
        else:
            library.hopf_run(model, *rest)
        return kept

    return run


def hopf_gradient(
    work: HopfWork, *, noise: str = "gaussian", seed: int = 0, checkpoint: int = CHECKPOINT
) -> Callable[[], tuple[float, np.ndarray]]:
    """
    W4a: a call that returns the loss and its gradient, (1 + region,): in k, then in every a.

    States are kept every `checkpoint` steps and made again on the way back; ``checkpoint=work.n_steps`` keeps all.
    """
    if checkpoint % work.keep or work.n_steps % checkpoint:
        raise ValueError(
            f"checkpoint is {checkpoint}; it must be a multiple of {work.keep} and divide {work.n_steps}"
        )
    n, library = work.n_regions, build(work.n_regions)
    weights, a, w, target = map(_floats, (work.weights, work.a, work.w, work.target))
    start = [_floats(value, (n,)) for value in (work.x0, work.y0)]
    gradient = np.empty(1 + n, dtype=np.float32)
    model = _Hopf(work.dt, work.k, work.beta, work.sigma, _at(a), _at(w))
    sizes = (ctypes.c_uint32(seed), work.n_steps, work.keep, checkpoint)

    def run() -> tuple[float, np.ndarray]:
        loss = library.hopf_gradient(
            model, _at(weights), *map(_at, start), NOISE[noise], *sizes, _at(target), _at(gradient)
        )
        return loss, gradient

    return run


def mpr(work: MPRWork) -> Callable[[], np.ndarray]:
    """W2: a call that returns r (1/ms), (sample, region), in the same memory each time."""
    n, library = work.n_regions, build()
    lags = np.where(work.weights > 0, work.lags, DELAY_BLOCK)
    if n % 4 or lags.min() < DELAY_BLOCK:
        raise ValueError(
            f"{n} regions, shortest delay {lags.min():.1f} steps; needed: a multiple of 4, {DELAY_BLOCK} steps"
        )
    weights, lags = _floats(work.weights), np.ascontiguousarray(lags, dtype=np.float64)
    kept = np.empty((work.n_steps // work.keep, n), dtype=np.float32)
    model = _MPR(work.dt, work.tau, work.delta, work.eta, work.j, work.current, work.k)
    delays = lags.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    start = (ctypes.c_float(work.r0), ctypes.c_float(work.v0))

    def run() -> np.ndarray:
        library.mpr_run(model, n, _at(weights), delays, *start, work.n_steps, work.keep, _at(kept))
        return kept

    return run


def rww_draws(n_steps: int, n_regions: int = 80, *, noise: str = "gaussian", seed: int = 0) -> np.ndarray:
    """The unit-variance increments of W3: (step, region)."""
    out = np.empty((n_steps, n_regions), dtype=np.float32)
    build(n_regions).rww_noise(NOISE[noise], ctypes.c_uint32(seed), n_steps, _at(out))
    return out


def _rww(work: RWWWork) -> tuple[tuple, tuple]:
    """What both programs take first, and the arrays that have to live as long."""
    if work.sub != SUB or work.keep % SUB or work.n_steps % work.keep:
        raise ValueError(f"the C limit takes {SUB} steps to one of the vessels, and whole sampling intervals")
    weights, w = _floats(work.weights), _floats(work.w)
    numbers = (
        work.dt,
        work.k,
        work.sigma,
        work.a,
        work.b,
        work.d,
        work.gamma,
        work.tau,
        work.j,
        work.current,
    )
    vessels = (
        work.kappa,
        work.flow_gamma,
        work.transit,
        work.alpha,
        work.rho,
        work.v0,
        work.k1,
        work.k2,
        work.k3,
    )
    first = (_RWW(*numbers, _at(w)), _Vessels(*vessels), _at(weights), ctypes.c_float(work.start))
    return first, (weights, w)


def rww(work: RWWWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], np.ndarray]:
    """W3: a call that returns BOLD, (sample, region), in the same memory each time."""
    library, (first, alive) = build(work.n_regions), _rww(work)
    kept = np.empty((work.n_steps // work.keep, work.n_regions), dtype=np.float32)

    def run(alive: tuple = alive) -> np.ndarray:
        library.rww_run(*first, NOISE[noise], ctypes.c_uint32(seed), work.n_steps, work.keep, _at(kept))
        return kept

    return run


def rww_gradient(
    work: RWWWork, *, noise: str = "gaussian", seed: int = 0
) -> Callable[[], tuple[float, np.ndarray]]:
    """W4b: a call that returns the loss and its gradient, (1 + region,): in k, then in every w."""
    library, (first, alive), target = build(work.n_regions), _rww(work), _floats(work.target)
    gradient = np.empty(1 + work.n_regions, dtype=np.float32)
    sizes = (ctypes.c_uint32(seed), work.n_steps, work.keep)

    def run(alive: tuple = alive) -> tuple[float, np.ndarray]:
        loss = library.rww_gradient(*first, NOISE[noise], *sizes, _at(target), _at(gradient))
        return loss, gradient

    return run


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def limit(name: str, noise: str = "gaussian", *, repeats: int = 5) -> float:
    """
    Seconds of one work.

    Parameters
    ----------
    name : {"W1", "W2", "W2-400", "W3", "W4a", "W4b", "W5"}
    noise : {"gaussian", "weak", "none"}
        W2 has none.
    repeats : int
    """
    calls = {
        "W1": lambda: hopf(works.w1(), noise=noise),
        "W2": lambda: mpr(works.w2(80)),
        "W2-400": lambda: mpr(works.w2(400)),
        "W3": lambda: rww(works.w3(), noise=noise),
        "W4a": lambda: hopf_gradient(works.w4a(), noise=noise),
        "W4b": lambda: rww_gradient(works.w4b(), noise=noise),
        "W5": lambda: hopf(works.w5(), noise=noise),
    }
    if name not in calls:
        raise ValueError(f"no work {name!r}; there are {', '.join(calls)}")
    return seconds(calls[name](), repeats)


def check() -> dict[str, float]:
    """
    Hold the C programs against numpy in float64 on shortened works.

    Returns
    -------
    dict
        Largest error of each, relative to the largest value (trajectories) or to the largest entry (gradient).

    Raises
    ------
    AssertionError
        An error is above 1e-4 (float32 over thousands of steps), or a draw is not what numpy makes of its counter.
    """
    errors: dict[str, float] = {}
    for noise in NOISE:
        one = works.w1(n_steps=3000)
        steps = draws(3000, noise=noise, seed=7)
        errors[f"W1 {noise}"] = _off(hopf(one, noise=noise, seed=7)(), plain.hopf(one, steps))
        many = works.w5(16, n_steps=300)
        steps = np.stack([draws(300, noise=noise, seed=7, set_=b) for b in range(16)], axis=2)
        errors[f"W5 {noise}"] = _off(
            hopf(many, noise=noise, seed=7)(), plain.hopf(many, steps).swapaxes(0, 1)
        )
        for checkpoint in (100, 1000):
            errors[f"W4a {noise} {checkpoint}"] = _gradient_error(noise, checkpoint)
        errors[f"W3 {noise}"], errors[f"W4b {noise}"] = _rww_errors(noise)
    for n_regions in (80, 400):
        work = works.w2(n_regions, n_steps=2000 if n_regions == 80 else 700)
        errors[f"W2 {n_regions}"] = _off(mpr(work)(), plain.mpr(work))
    assert max(errors.values()) < 1e-4, errors
    _check_noise()
    return errors


def _off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _gradient_error(noise: str, checkpoint: int) -> float:
    """Against central differences of the plain loss in k and in three of the a."""
    work = works.w4a(n_steps=1000)
    steps = draws(1000, noise=noise, seed=3)
    loss, gradient = hopf_gradient(work, noise=noise, seed=3, checkpoint=checkpoint)()

    def plain_loss(at: int, by: float) -> float:
        if at == 0:
            return plain.fc_loss(plain.hopf(replace(work, k=work.k + by), steps), work.target)
        a = work.a.copy()
        a[at - 1] += by
        return plain.fc_loss(plain.hopf(replace(work, a=a), steps), work.target)

    entries, by = [0, 1, 40, 80], 1e-5
    differences = [(plain_loss(at, by) - plain_loss(at, -by)) / (2 * by) for at in entries]
    error = _off(gradient[entries], np.array(differences))
    return max(error, abs(loss / plain_loss(0, 0.0) - 1))


def _rww_errors(noise: str) -> tuple[float, float]:
    """BOLD of W3, and the gradient of W4b against central differences in k and in three of the w."""
    work = works.w3(n_samples=12)
    steps = rww_draws(work.n_steps, noise=noise, seed=5)
    error = _off(rww(work, noise=noise, seed=5)(), plain.rww(work, steps))
    loss, gradient = rww_gradient(work, noise=noise, seed=5)()

    def plain_loss(at: int, by: float) -> float:
        w = work.w.copy()
        w[at - 1] += by if at else 0.0
        changed = replace(work, w=w, k=work.k + (0.0 if at else by))
        return plain.fc_loss(plain.rww(changed, steps), work.target)

    entries, by = [0, 1, 40, 80], 1e-5
    differences = [(plain_loss(at, by) - plain_loss(at, -by)) / (2 * by) for at in entries]
    in_slope = _off(gradient[entries], np.array(differences))
    return error, max(in_slope, abs(loss / plain_loss(0, 0.0) - 1))


def _check_noise() -> None:
    """The generator gives the words of its authors' test, and the C draws are those that numpy makes."""
    pi = plain.threefry((0x13198A2E, 0x03707344), np.array([0x243F6A88, 0x85A308D3]))
    assert [hex(word) for word in pi] == ["0xba3e4725", "0xf27d669e"]
    for noise, kurtosis in (("gaussian", 3.0), ("weak", 3.0 - 1 / 16)):
        drawn = draws(20_000, noise=noise, seed=1, set_=2).astype(float)
        # float32 polynomials: relative errors of 4e-7 of draws below 6
        np.testing.assert_allclose(drawn, plain.draws(20_000, 80, noise=noise, seed=1, set_=2), atol=1e-5)
        n = drawn.size
        assert abs(drawn.mean()) < 5 / np.sqrt(n), "5 standard errors, as below"
        assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / n)
        assert abs((drawn**4).mean() - kurtosis) < 5 * np.sqrt(96 / n)
        assert abs((drawn[:, 0] * drawn[:, 1]).mean()) < 5 / np.sqrt(n / 2)


def main() -> None:
    """Check, then print seconds of every work."""
    print(json.dumps({name: f"{error:.1e}" for name, error in check().items()}, indent=2))
    for name in ("W1", "W3", "W4a", "W4b", "W5"):
        for noise in NOISE:
            few = name in ("W4b", "W5")
            print(f"{name:7} {noise:9} {limit(name, noise, repeats=3 if few else 7):8.4f} s")
    everything = seconds(hopf_gradient(works.w4a(), checkpoint=works.w4a().n_steps))
    print(f"W4a     gaussian  {everything:8.4f} s with all states kept")
    for name in ("W2", "W2-400"):
        print(f"{name:7} {'-':9} {limit(name, repeats=3):8.4f} s")


if __name__ == "__main__":
    main()
