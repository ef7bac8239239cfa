"""
Make the demo cohort: six simulated subjects with known parameters, stored as BIDS derivatives.

Run ``python data/generate_demo.py [FOLDER]`` (default: ``data/demo`` beside this file). Every subject has its
own connectome and is simulated with the full nonlinear stochastic Hopf network (`HopfStep`, Heun, dt 48 ms),
not with the linear theory that the workflow fits. True parameters go to ``truth.tsv``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from brainloom.core.runtime import configure

configure(threads=1, precision="float64")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from brainloom.core.keys import named_key  # noqa: E402
from brainloom.fit.realise import stationary_start  # noqa: E402
from brainloom.io import bids  # noqa: E402
from brainloom.models import HopfStep  # noqa: E402
from brainloom.models.lowering import lower  # noqa: E402
from brainloom.network import Network  # noqa: E402

SEED = 2026
ATLAS, TASK = "demo40", "rest"
N_PAIRS = 20
REPETITION_TIME, N_FRAMES, N_RUNS = 0.72, 838, 2
DT = 0.048
N_TRANSIENT = 167
# Global coupling (1/s) spreads over a factor of 4 between subjects.
COUPLING = {"01": 0.4, "02": 1.3, "03": 0.75, "04": 0.55, "05": 1.7, "06": 1.0}
HOMOTOPIC = 0.6
# Saturation and fluctuations: median <x^2 + y^2> / |a| is NOISE_LEVEL, so beta times that is 0.04.
BETA, NOISE_LEVEL = 0.4, 0.1
MARGIN, RATE = 0.01, 0.06
LOBES = ("Frontal", "Central", "Parietal", "Temporal", "Occipital")


def regions(rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Labels (left and right alternate), coordinates in mm and the index of the mirror region."""
    places = []
    while len(places) < N_PAIRS:  # spread over the left half of an ellipsoid shell
        point = rng.normal(size=3)
        point /= np.linalg.norm(point)
        candidate = np.array([-abs(point[0]) * 52.0 - 8.0, point[1] * 78.0 - 15.0, point[2] * 52.0 + 18.0])
        if all(np.linalg.norm(candidate - other) > 22.0 for other in places):
            places.append(candidate)
    places.sort(key=lambda place: -place[1])  # front to back
    labels, coordinates = [], []
    for k, place in enumerate(places):
        lobe = LOBES[k * len(LOBES) // N_PAIRS]
        for side, sign in (("L", 1.0), ("R", -1.0)):
            labels.append(f"{lobe}_{k % 4 + 1}_{side}")
            coordinates.append(place * np.array([sign, 1.0, 1.0]))
    return labels, np.array(coordinates), np.arange(2 * N_PAIRS) ^ 1


def connectome(
    rng: np.random.Generator, coordinates: np.ndarray, homotope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Streamline counts that decay with distance, with individual variation; tract lengths in mm."""
    n = len(coordinates)
    distance = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    upper = np.triu_indices(n, 1)
    shared = np.random.default_rng(SEED + 1)
    lengths = distance * (1.15 + 0.1 * shared.random((n, n)))
    weights = np.exp(-distance / 24.0) * np.exp(0.9 * shared.normal(size=(n, n)))
    across = np.sign(coordinates[:, None, 0]) != np.sign(coordinates[None, :, 0])
    weights *= np.where(across, 0.25, 1.0)
    weights[np.arange(n), homotope] += 0.15
    weights *= np.exp(0.45 * rng.normal(size=(n, n)))
    lengths *= np.exp(0.03 * rng.normal(size=(n, n)))
    out = []
    for matrix in (np.round(1e4 * weights), lengths):
        symmetric = np.zeros((n, n))
        symmetric[upper] = matrix[upper]
        out.append(symmetric + symmetric.T)
    counts, lengths = out
    return counts, np.where(counts > 0, lengths, 0.0)


def parameters(rng: np.random.Generator, coordinates: np.ndarray) -> dict[str, np.ndarray]:
    """Regional maps of a subject: a gradient from front to back that all share, and individual deviations."""
    shared = np.random.default_rng(SEED + 2)
    n = len(coordinates)
    along = (coordinates[:, 1] - coordinates[:, 1].mean()) / coordinates[:, 1].std()

    def field(gradient: float, common: float, own: float) -> np.ndarray:
        log = gradient * along + common * shared.normal(size=n) + own * rng.normal(size=n)
        return log - log.mean()

    return {
        "a": -(MARGIN + (RATE - MARGIN) * np.exp(field(0.0, 0.15, 0.05))),
        "noise": np.exp(field(0.55, 0.2, 0.45)),
        "frequency": 0.047 + 0.012 * shared.random(n) + 0.001 * rng.normal(size=n),
    }


def network(
    counts: np.ndarray, homotope: np.ndarray, coupling: float, maps: dict
) -> tuple[Network, np.ndarray]:
    """The network of a subject and its absolute noise amplitudes, scaled to `NOISE_LEVEL`."""
    n = len(counts)
    weights = counts / counts.sum(axis=1).mean()
    weights[np.arange(n), homotope] += HOMOTOPIC

    def build(noise: np.ndarray) -> Network:
        omega = 2.0 * np.pi * maps["frequency"]
        node = HopfStep(n, a=maps["a"], w=omega, beta=BETA, noise_x=noise, noise_y=noise, time_unit="s")
        return Network(node, coupling * weights, coupled_var=("x", "y"))

    draws = stationary_start(build(maps["noise"]), 4000, jax.random.key(SEED))
    power = np.asarray(draws["x"] ** 2 + draws["y"] ** 2).mean(axis=0)
    noise = maps["noise"] * np.sqrt(NOISE_LEVEL / np.median(power / np.abs(maps["a"])))
    return build(noise), noise


def record(net: Network, key: jax.Array, start: dict[str, jax.Array]) -> np.ndarray:
    """
    BOLD of one run, (frame, region).

    The noise is drawn here, one key a frame, so that the demo stays the same whatever generator simulations use.
    """
    low = lower(net, DT, "stochastic_heun")
    frames, steps = N_TRANSIENT + N_FRAMES, round(REPETITION_TIME / DT)
    frame_keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(key, 0), k))(jnp.arange(frames))
    noise = jax.vmap(lambda one: jax.random.normal(one, (steps, *low.noise_shape)))(frame_keys)

    def frame(state: dict, noise: jax.Array) -> tuple[dict, jax.Array]:
        state, seen = low.advance(low.params, state, {}, noise, 0.0)
        return state, seen["bold"][-1]

    _, bold = jax.jit(lambda start, noise: jax.lax.scan(frame, start, noise))(start, noise)
    return np.asarray(bold)[N_TRANSIENT:]


def write_subject(root: Path, subject: str, atlas: tuple) -> list[dict[str, str]]:
    """Simulate and write one subject; its rows of the truth table."""
    labels, coordinates, homotope = atlas
    rng = np.random.default_rng([SEED, int(subject)])
    counts, lengths = connectome(rng, coordinates, homotope)
    maps = parameters(rng, coordinates)
    net, noise = network(counts, homotope, COUPLING[subject], maps)
    for measure, matrix, unit in (("weight", counts, "streamlines"), ("length", lengths, "mm")):
        path = bids.relmat_path(root, subject, atlas=ATLAS, measure=measure)
        bids.write_relmat(path, matrix, {"Unit": unit}, digits=5)
    for run in range(1, N_RUNS + 1):
        key = named_key(SEED, subject, f"run-{run}")
        start = stationary_start(net, 1, jax.random.fold_in(key, 1))
        x = record(net, key, {name: value[0] for name, value in start.items()})
        bold = 1000.0 + 10.0 * x / x.std()
        path = bids.timeseries_path(root, subject, task=TASK, atlas=ATLAS, run=run)
        bids.write_timeseries(path, bold, labels, REPETITION_TIME)
    rows = [("coupling", "global", COUPLING[subject], "1/s"), ("homotopic", "global", HOMOTOPIC, "1")]
    rows += [("a", label, value, "1/s") for label, value in zip(labels, maps["a"], strict=True)]
    rows += [("noise", label, value, "state/sqrt(s)") for label, value in zip(labels, noise, strict=True)]
    return [
        {"subject": subject, "parameter": name, "region": region, "value": f"{value:.6g}", "unit": unit}
        for name, region, value, unit in rows
    ]


def main(folder: str | None = None) -> None:
    """Write the whole cohort."""
    root = Path(folder) if folder else Path(__file__).parent / "demo"
    atlas = regions(np.random.default_rng(SEED))
    bids.write_description(root, name="brainloom demo cohort (simulated)", License="CC0-1.0")
    bids.write_participants(root, list(COUPLING))
    labels, coordinates, homotope = atlas
    bids.write_atlas(
        bids.atlas_path(root, ATLAS),
        labels,
        hemisphere=[label[-1] for label in labels],
        coordinates=coordinates,
        homotope=homotope,
        digits=4,
    )
    rows = [row for subject in COUPLING for row in write_subject(root, subject, atlas)]
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    (root / "truth.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
