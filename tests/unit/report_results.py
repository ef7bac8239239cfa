"""A small study on disk for the report tests: an OU network per subject, really simulated, scored and stored.

Signal, metrics and group datasets come from the code of the workflow. The "fit" is the true network with disturbed
parameters, so that scores, intervals and truth mean something without running an optimiser.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import expm, solve_continuous_lyapunov

from brainloom.analysis.features import features
from brainloom.analysis.nulls import edge_shuffle, uniform
from brainloom.analysis.signal_dataset import signal_dataset
from brainloom.analysis.subject_scores import score_subject
from brainloom.core.provenance import json_hash, provenance_attrs
from brainloom.steps import group
from brainloom.store import failed_dataset, write_dataset

TR = 0.72
SIGNAL = {
    "band": [0.01, 0.1],
    "filter_order": 2,
    "global_signal_regression": False,
    "splits": "halves",
    "fcd_window": 30.0,
    "fcd_step": 6.0,
    "psd_window": 64,
}
PARAMS = {
    "study": "synthetic",
    "seed": 0,
    "precision": "float64",
    "model": {"name": "LinearStep"},
    "signal": SIGNAL,
    "fit": {"control_starts": 1},
    "identify": {"level": 0.9},
    "group": {"mixture": True},
}
KINDS = ("connectome", "signal", "fit", "posterior", "simulation", "metrics")
UNITS = {"coupling": "1/s", "gamma": "1/s", "noise": "state/sqrt(s)"}


def jacobian(weights: np.ndarray, coupling: float, gamma: np.ndarray) -> np.ndarray:
    """Diffusively coupled OU: dx = gamma x + coupling sum_j w_ij (x_j - x_i)."""
    return np.diag(gamma - coupling * weights.sum(axis=1)) + coupling * weights


def covariance(drift: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return solve_continuous_lyapunov(drift, -np.diag(noise**2))


def correlation(cov: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diag(cov))
    return cov / np.outer(scale, scale)


def simulate(drift: np.ndarray, noise: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Exact discrete samples of the OU process at the repetition time: (time, region)."""
    cov = covariance(drift, noise)
    step = expm(drift * TR)
    root = np.linalg.cholesky(cov - step @ cov @ step.T + 1e-12 * np.eye(len(cov)))
    x = np.linalg.cholesky(cov) @ rng.standard_normal(len(cov))
    out = np.empty((frames, len(cov)))
    for t in range(frames):
        x = step @ x + root @ rng.standard_normal(len(cov))
        out[t] = x
    return out


def model_psd(drift: np.ndarray, noise: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Two-sided spectrum of the unit-variance process, doubled: (region, frequency)."""
    cov = covariance(drift, noise)
    out = []
    for f in frequency:
        transfer = np.linalg.inv(2j * np.pi * f * np.eye(len(drift)) - drift)
        out.append(2 * np.einsum("ij,j,ij->i", transfer, noise**2, transfer.conj()).real / np.diag(cov))
    return np.array(out).T


def truth_of(label: int, n: int) -> dict:
    """True network and parameters of one subject."""
    rng = np.random.default_rng(100 + label)
    half = n // 2
    xyz = np.random.default_rng(7).uniform(-50, 50, (half, 3))
    xyz = np.vstack([xyz * [-1, 1, 1], xyz]) + np.repeat([[-20, 0, 0], [20, 0, 0]], half, axis=0)
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)
    weights = np.exp(-distance / 25) * rng.lognormal(0, 0.8, (n, n))
    weights = (weights + weights.T) / 2
    mirror = np.r_[np.arange(half) + half, np.arange(half)]
    weights[np.arange(n), mirror] += 0.4
    np.fill_diagonal(weights, 0)
    weights /= weights.sum(axis=1).mean()
    return {
        "weights": weights,
        "lengths": distance,
        "xyz": xyz,
        "mirror": mirror,
        "coupling": float(0.5 + 0.4 * (label % 4)),
        "gamma": -0.05 * rng.lognormal(0, 0.35, n),
        "noise": 0.1 * rng.lognormal(0, 0.3, n),
    }


def connectome_of(truth: dict, regions: list[str]) -> xr.Dataset:
    n = len(regions)
    side = ["L"] * (n // 2) + ["R"] * (n // 2)
    pair = ("region", "region_to")
    return xr.Dataset(
        {"weights": (pair, truth["weights"]), "lengths": (pair, truth["lengths"])},
        coords={
            "region": regions,
            "region_to": regions,
            "hemisphere": ("region", side),
            "homotope": ("region", truth["mirror"]),
            **{axis: ("region", truth["xyz"][:, k]) for k, axis in enumerate("xyz")},
        },
        attrs={"normalisation": "mean_strength", "scale": 1.0, "transform": "linear", "density": 1.0},
    )


def fit_of(networks: dict, values: dict, frequency: np.ndarray, regions: list[str]) -> xr.Dataset:
    """A fit dataset of known parameters: features are computed, only the loss curves are made up."""
    n, labels, starts, steps = len(regions), list(networks), 3, 60
    drifts = [jacobian(weights, values["coupling"], values["gamma"]) for weights in networks.values()]
    covariances = [covariance(drift, values["noise"]) for drift in drifts]
    lag = [expm(drift * TR) @ cov for drift, cov in zip(drifts, covariances, strict=True)]
    loss = np.full((len(labels), starts, steps), np.nan)
    for p in range(len(labels)):
        for s in range(starts):
            stop = steps - 11 * s
            loss[p, s, :stop] = 0.02 + 0.004 * p + 0.3 * np.exp(-np.arange(stop) / (5 + 2 * s))
    table = np.stack([np.full(n, values["coupling"]), values["gamma"], values["noise"]])
    pair = ("predictor", "region", "region_to")
    return xr.Dataset(
        {
            "estimate": (
                ("predictor", "start", "parameter", "region"),
                np.broadcast_to(table, (len(labels), starts, 3, n)).copy(),
            ),
            "loss": (("predictor", "start", "step"), loss),
            "best_start": ("predictor", np.zeros(len(labels), int)),
            "n_steps": (("predictor", "start"), np.isfinite(loss).sum(axis=2)),
            "converged": (("predictor", "start"), np.ones((len(labels), starts), bool)),
            "stability_margin": ("predictor", [-np.linalg.eigvals(drift).real.max() for drift in drifts]),
            "fc_model": (pair, np.array([correlation(c) for c in covariances])),
            "lag1_model": (
                pair,
                np.array(
                    [
                        m / np.sqrt(np.outer(np.diag(c), np.diag(c)))
                        for m, c in zip(lag, covariances, strict=True)
                    ]
                ),
            ),
            "variance_model": (
                ("predictor", "region"),
                np.array([np.diag(c) / np.diag(c).mean() for c in covariances]),
            ),
            "psd_model": (
                ("predictor", "region", "frequency"),
                np.array([model_psd(drift, values["noise"], frequency) for drift in drifts]),
            ),
            "frequency_hz": ("region", np.zeros(n)),
        },
        coords={
            "region": regions,
            "region_to": regions,
            "predictor": labels,
            "parameter": list(UNITS),
            "frequency": frequency,
            "family": ("predictor", ["model_analytic" if p == "model" else p.split(":")[0] for p in labels]),
            "scope": ("parameter", ["global", "regional", "regional"]),
            "unit": ("parameter", list(UNITS.values())),
        },
    )


def posterior_of(fit: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    values = fit["estimate"].sel(predictor="model", start=0).values
    n = values.shape[1]
    sd = rng.uniform(0.1, 1.0, (3, n))
    sd[0] = 0.2
    ends = [values * np.exp(k * 1.645 * sd) for k in (-1, 1)]
    contraction = 1 - sd
    place = ("parameter", "region")
    return xr.Dataset(
        {
            "sd": (place, sd),
            "lower": (place, np.minimum(*ends)),
            "upper": (place, np.maximum(*ends)),
            "contraction": (place, contraction),
            "estimate": (place, values),
            "identified": (
                place,
                np.where(contraction >= 0.5, "yes", np.where(contraction >= 0.1, "weak", "no")),
            ),
            "eigenvalue": ("direction", np.logspace(4, -9, 2 * n + 1)),
        },
        coords={"parameter": fit["parameter"].values, "region": fit["region"].values},
        attrs={"level": 0.9},
    )


def simulation_of(drift: np.ndarray, noise: np.ndarray, frames: int, seeds: int, regions, rng) -> xr.Dataset:
    runs = [simulate(drift, noise, frames, rng) for _ in range(seeds)]
    found = [features(x, TR, SIGNAL) for x in runs]
    mean = np.mean([f["fc"] for f in found], axis=0)
    pair = ("region", "region_to")
    return xr.Dataset(
        {
            "bold": (("seed", "time", "region"), np.array(runs, np.float32)),
            "fc": (("seed", *pair), np.array([f["fc"] for f in found])),
            "lag1": (("seed", *pair), np.array([f["lag1"] for f in found])),
            "fcd": (("seed", "window", "window_to"), np.array([f["fcd"] for f in found], np.float32)),
            "psd": (("seed", "region", "frequency"), np.array([f["psd"] for f in found])),
            "variance": (("seed", "region"), np.array([f["variance"] for f in found])),
            "metastability": ("seed", np.array([f["metastability"] for f in found])),
            "fc_mean": (("noise_level", *pair), np.array([mean, 0.8 * mean])),
        },
        coords={
            "region": regions,
            "region_to": regions,
            "seed": np.arange(seeds),
            "frequency": found[0]["frequency"],
            "noise_level": [0.1, 0.3],
        },
        attrs={"dt": 0.072, "n_realisations": seeds, "diverged": 0},
    )


def subject_datasets(
    label: str, index: int, *, n: int, frames: int, seeds: int, controls: bool
) -> tuple[dict, dict]:
    """All datasets of one subject, and its truth. `frames` is the length of one half."""
    truth = truth_of(index, n)
    rng = np.random.default_rng(index)
    regions = [f"Region_{i % (n // 2) + 1}_{'L' if i < n // 2 else 'R'}" for i in range(n)]
    drift = jacobian(truth["weights"], truth["coupling"], truth["gamma"])
    bold = simulate(drift, truth["noise"], 2 * frames, rng) * 50 + 1000
    out = {"connectome": connectome_of(truth, regions)}
    out["signal"] = signal_dataset([bold], TR, regions, SIGNAL, [0.04, 0.07])
    fitted = {
        "coupling": truth["coupling"] * rng.lognormal(0, 0.1),
        "gamma": truth["gamma"] * rng.lognormal(0, 0.15, n),
        "noise": truth["noise"] * rng.lognormal(0, 0.15, n),
    }
    networks = {"model": truth["weights"]}
    if controls:
        networks |= {
            "control_other_subject": truth_of(index + 1, n)["weights"],
            "control_edge_shuffle:0": edge_shuffle(truth["weights"], 0),
            "control_edge_shuffle:1": edge_shuffle(truth["weights"], 1),
            "control_uniform": uniform(truth["weights"]),
        }
    out["fit"] = fit_of(networks, fitted, out["signal"]["frequency"].values, regions)
    out["posterior"] = posterior_of(out["fit"], rng)
    own = jacobian(truth["weights"], fitted["coupling"], fitted["gamma"])
    out["simulation"] = simulation_of(own, fitted["noise"], frames, seeds, regions, rng)
    inputs = {kind: out[kind] for kind in ("connectome", "signal", "fit", "simulation")}
    out["metrics"] = score_subject(label, "LinearStep", fcd=True, seed=0, **inputs)
    return out, truth


def truth_rows(label: str, truth: dict, regions) -> list[tuple]:
    rows = [(label, "coupling", "global", truth["coupling"], UNITS["coupling"])]
    return rows + [
        (label, name, str(region), truth[name][k], UNITS[name])
        for name in ("gamma", "noise")
        for k, region in enumerate(regions)
    ]


def build_study(
    root: Path,
    *,
    n_subjects: int = 4,
    n: int = 12,
    frames: int = 300,
    seeds: int = 3,
    failed: tuple[str, ...] = (),
    controls: bool = True,
) -> dict:
    """Write a study below `root`; returns its folder and its files by kind.

    `failed` subjects have datasets that say so; one more subject, "99", has none at all, as when its files are missing.
    """
    root = Path(root)
    files: dict[str, list[str]] = {kind: [] for kind in KINDS}
    index, truths = [], []
    for position in range(n_subjects):
        label = f"{position + 1:02d}"
        index.append((label, "yes", ""))
        if label in failed:
            reason = (
                f"sub-{label}: region 'Region_3_L' has zero variance; remove the subject or repair the file"
            )
            datasets = {kind: failed_dataset(kind, label, reason) for kind in KINDS}
        else:
            datasets, truth = subject_datasets(
                label, position, n=n, frames=frames, seeds=seeds, controls=controls
            )
            truths += truth_rows(label, truth, datasets["signal"]["region"].values)
        for kind, ds in datasets.items():
            path = root / f"sub-{label}" / f"sub-{label}_desc-{kind}.zarr.zip"
            attrs = {
                "kind": kind,
                "subject": label,
                "study": "synthetic",
                "status": "ok",
                "reason": "",
            } | ds.attrs
            attrs |= provenance_attrs(
                kind, PARAMS, {"input": json_hash([label, kind])}, seed=0, precision="float64"
            )
            write_dataset(path, ds.assign_attrs(attrs))
            files[kind].append(str(path))
    index.append(("99", "no", "sub-99: no file sub-99/dwi/sub-99_atlas-x_meas-weight_relmat.tsv"))
    pd.DataFrame(index, columns=["subject", "included", "reason"]).to_csv(
        root / "index.tsv", sep="\t", index=False
    )
    pd.DataFrame(truths, columns=["subject", "parameter", "region", "value", "unit"]).to_csv(
        root / "truth.tsv", sep="\t", index=False
    )
    command = [
        "--index",
        str(root / "index.tsv"),
        "--output",
        str(root / "group.zarr.zip"),
        "--tables",
        str(root),
    ]
    assert group.main([*command, *_lists(files), "--params", json.dumps(PARAMS)]) == 0
    for rule, seconds in (("fit", 31.5), ("simulate", 12.25)):
        path = root / "benchmarks" / rule / "b001.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
            f"{seconds}\t0:00:31\t512.3\t1\t1\t1\t0\t0\t98.5\t30\n"
        )
    return {"files": files, "root": root}


def _lists(files: dict[str, list[str]]) -> list[str]:
    return [word for kind, paths in files.items() for word in (f"--{kind}", *paths)]


def arguments(study: dict, output: Path, *, truth: bool = True, benchmarks: bool = True) -> list[str]:
    """Command line of the report step for a study of `build_study`."""
    root = study["root"]
    args = ["--group", str(root / "group.zarr.zip"), "--tables", str(root), *_lists(study["files"])]
    args += ["--output", str(output), "--provenance", str(output.with_name("provenance.json"))]
    args += ["--params", json.dumps(PARAMS)]
    args += ["--truth", str(root / "truth.tsv")] if truth else []
    return args + (["--benchmarks", str(root / "benchmarks")] if benchmarks else [])
