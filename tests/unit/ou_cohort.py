"""A small cohort of coupled Ornstein-Uhlenbeck processes with known covariance, stored as the workflow stores it.

Recordings are drawn from the exact discrete process, the FC of the "model" is that of the true Jacobian, from
the Lyapunov equation and the band of the filter, realisations are new draws. So every dataset that `analyse` and `group` read holds real numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import linalg

from brainloom.analysis.clean import band_power_gain
from brainloom.analysis.features import features
from brainloom.analysis.nulls import edge_shuffle, uniform
from brainloom.analysis.signal_dataset import signal_dataset
from brainloom.store import write_dataset

TR = 2.0
N = 12
LABELS = [f"Region{k // 2}_{'LR'[k % 2]}" for k in range(N)]
SIGNAL = {
    "tr": None,
    "band": [0.01, 0.1],
    "filter_order": 2,
    "drop_frames": 0,
    "splits": "halves",
    "global_signal_regression": False,
    "fcd_window": 60.0,
    "fcd_step": 6.0,
    "psd_window": 64,
}
FREQUENCY = np.fft.rfftfreq(64, TR)
COMMON = {"study": "ou", "seed": 0, "precision": "float64", "model": {"name": "LinearStep"}, "signal": SIGNAL}
ANALYSE = COMMON | {"analyse": {"fcd": True}}
GROUP = COMMON | {"group": {"mixture": True}}
KINDS = ("connectome", "signal", "fit", "posterior", "simulation", "metrics")


def weights_of(subject: int) -> np.ndarray:
    """Connectome of a subject: a common pattern with individual log-normal deviations."""
    common, own = np.random.default_rng(100), np.random.default_rng(200 + subject)
    pattern = common.normal(size=(N, N)) + 0.6 * own.normal(size=(N, N))
    weights = np.exp(1.2 * (pattern + pattern.T) / 2)
    np.fill_diagonal(weights, 0)
    return weights / weights.sum(axis=1).mean()


def jacobian_of(weights: np.ndarray, coupling: float = 0.6) -> np.ndarray:
    return coupling * weights - np.diag(0.08 + coupling * weights.sum(axis=1))


def draw(jacobian: np.ndarray, n: int, seed: int | list[int]) -> np.ndarray:
    """Exact samples at TR of dx = J x dt + dW: (time, region)."""
    stationary = linalg.solve_continuous_lyapunov(jacobian, -np.eye(N))
    step = linalg.expm(jacobian * TR)
    noise = linalg.cholesky(stationary - step @ stationary @ step.T, lower=True)
    random = np.random.default_rng(seed)
    x = np.empty((n, N))
    state = linalg.cholesky(stationary, lower=True) @ random.normal(size=N)
    for t in range(n):
        x[t] = state
        state = step @ state + noise @ random.normal(size=N)
    return x


def analytic(jacobian: np.ndarray) -> dict[str, np.ndarray]:
    """FC, lag-1 correlation and variance seen through the band, and spectrum, without noise of estimation.

    Integrals over frequency of the exact cross-spectrum of the process sampled at TR.
    """
    stationary = linalg.solve_continuous_lyapunov(jacobian, -np.eye(N))
    step = linalg.expm(jacobian * TR)
    noise = stationary - step @ stationary @ step.T
    fine = (np.arange(1000) + 0.5) / 1000 * 0.5 / TR

    def cross_spectrum(frequency: np.ndarray) -> np.ndarray:
        turn = np.exp(-2j * np.pi * frequency * TR)[:, None, None]
        transfer = np.linalg.inv(np.eye(N) - step * turn)
        return 2 * TR * transfer @ noise @ transfer.conj().transpose(0, 2, 1)

    seen = cross_spectrum(fine) * band_power_gain(fine, TR, SIGNAL["band"])[:, None, None]
    covariance = seen.real.mean(axis=0)
    lagged = (seen * np.exp(2j * np.pi * fine * TR)[:, None, None]).real.mean(axis=0)
    scale = np.sqrt(np.diag(covariance))
    psd = np.diagonal(cross_spectrum(FREQUENCY).real, axis1=1, axis2=2).T
    return {
        "fc": covariance / np.outer(scale, scale),
        "lag1": lagged / np.outer(scale, scale),
        "variance": np.diag(covariance) / np.diag(covariance).mean(),
        "psd": psd / np.diag(stationary)[:, None],
    }


def attrs(kind: str, label: str) -> dict[str, str]:
    return {"kind": kind, "subject": label, "study": "ou", "status": "ok", "reason": ""}


def fit_dataset(weights: np.ndarray, *, wrong: bool = False) -> xr.Dataset:
    """The model at the truth (or on shuffled weights), and controls."""
    predictors = {
        "model": edge_shuffle(weights, 77) if wrong else weights,
        "control_edge_shuffle:0": edge_shuffle(weights, 0),
        "control_edge_shuffle:1": edge_shuffle(weights, 1),
        "control_uniform": uniform(weights),
    }
    found = [analytic(jacobian_of(w)) for w in predictors.values()]
    estimate = np.stack([np.full((1, N), 0.6), np.full((1, N), -0.08)], axis=1)[None].repeat(
        len(found), axis=0
    )
    pair = ("predictor", "region", "region_to")
    return xr.Dataset(
        {
            "fc_model": (pair, np.stack([f["fc"] for f in found])),
            "lag1_model": (pair, np.stack([f["lag1"] for f in found])),
            "variance_model": (("predictor", "region"), np.stack([f["variance"] for f in found])),
            "psd_model": (("predictor", "region", "frequency"), np.stack([f["psd"] for f in found])),
            "estimate": (
                ("predictor", "start", "parameter", "region"),
                estimate.reshape(len(found), 1, 2, N),
            ),
        },
        coords={
            "predictor": list(predictors),
            "region": LABELS,
            "region_to": LABELS,
            "frequency": FREQUENCY,
            "parameter": ["coupling", "gamma"],
            "scope": ("parameter", ["global", "regional"]),
            "unit": ("parameter", ["1/s", "1/s"]),
        },
    )


def posterior_dataset() -> xr.Dataset:
    """Intervals around the truth."""
    estimate = np.stack([np.full(N, 0.6), np.linspace(-0.1, -0.06, N)])
    return xr.Dataset(
        {
            "estimate": (("parameter", "region"), estimate),
            "lower": (("parameter", "region"), estimate - 0.01),
            "upper": (("parameter", "region"), estimate + 0.02),
            "identified": (("parameter", "region"), np.array([["yes"] * N, ["weak"] * N])),
        },
        coords={"parameter": ["coupling", "gamma"], "region": LABELS},
    )


def simulation_dataset(jacobian: np.ndarray, n: int, seeds: int = 8, first: int = 1000) -> xr.Dataset:
    """Fresh realisations through the same features as the data."""
    bold = [draw(jacobian, n, first + k) for k in range(seeds)]
    found = [features(x, TR, SIGNAL) for x in bold]

    def stack(name: str) -> np.ndarray:
        return np.stack([f[name] for f in found])

    mean = np.tanh(np.arctanh(np.clip(stack("fc"), -0.999, 0.999)).mean(axis=0))
    pair = ("seed", "region", "region_to")
    return xr.Dataset(
        {
            "bold": (("seed", "time", "region"), np.stack(bold).astype(np.float32)),
            "fc": (pair, stack("fc")),
            "lag1": (pair, stack("lag1")),
            "fcd": (("seed", "window", "window_to"), stack("fcd")),
            "psd": (("seed", "region", "frequency"), stack("psd")),
            "variance": (("seed", "region"), stack("variance")),
            "metastability": ("seed", stack("metastability")),
            "fc_mean": (("noise_level", "region", "region_to"), np.stack([mean, mean**3])),
        },
        coords={
            "seed": np.arange(seeds),
            "region": LABELS,
            "region_to": LABELS,
            "frequency": FREQUENCY,
            "noise_level": [0.1, 0.3],
        },
        attrs={"n_realisations": seeds, "diverged": 0},
    )


def subject_inputs(subject: int, *, n: int = 800, wrong: bool = False) -> dict[str, xr.Dataset]:
    """All datasets of one subject but its metrics."""
    label = f"{subject:02d}"
    weights = weights_of(subject)
    run = draw(jacobian_of(weights), n, [7, subject])
    found = {
        "connectome": xr.Dataset(
            {"weights": (("region", "region_to"), weights)}, coords={"region": LABELS, "region_to": LABELS}
        ),
        "signal": signal_dataset([run], TR, LABELS, SIGNAL, (0.04, 0.07)),
        "fit": fit_dataset(weights, wrong=wrong),
        "posterior": posterior_dataset(),
        "simulation": simulation_dataset(jacobian_of(weights), n // 2, first=1000 + 50 * subject),
    }
    return {kind: ds.assign_attrs(attrs(kind, label)) for kind, ds in found.items()}


def store(folder: Path, datasets: dict[str, xr.Dataset]) -> dict[str, Path]:
    """Write the datasets of one subject; returns their files."""
    files = {}
    for kind, ds in datasets.items():
        label = ds.attrs["subject"]
        files[kind] = folder / f"sub-{label}" / f"sub-{label}_desc-{kind}.zarr.zip"
        files[kind].parent.mkdir(parents=True, exist_ok=True)
        write_dataset(files[kind], ds)
    return files


def params(settings: dict) -> list[str]:
    return ["--params", json.dumps(settings)]
