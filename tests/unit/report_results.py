"""A small study on disk for the report tests: an OU network per subject, really simulated, scored and stored.

The "fit" is the true network with disturbed parameters, so that scores, intervals and truth are meaningful without
running an optimiser.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import expm, solve_continuous_lyapunov

from brainloom.analysis.features import features
from brainloom.analysis.metric_rows import MetricRows, averaged_rows
from brainloom.analysis.nulls import edge_shuffle, uniform
from brainloom.analysis.scores import fc_scores, feature_scores
from brainloom.core.provenance import json_hash, provenance_attrs
from brainloom.store import failed_dataset, write_dataset

TR = 0.72
SIGNAL = {
    "band": [0.01, 0.1],
    "filter_order": 2,
    "global_signal_regression": False,
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
    "identify": {"level": 0.9},
}
KINDS = ("connectome", "signal", "fit", "posterior", "simulation", "metrics")


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


def subject_datasets(
    label: str, index: int, *, n: int, frames: int, seeds: int, controls: bool
) -> tuple[dict, dict]:
    """All datasets of one subject, and its truth."""
    truth = truth_of(index, n)
    rng = np.random.default_rng(index)
    regions = [f"Region_{i % (n // 2) + 1}_{'L' if i < n // 2 else 'R'}" for i in range(n)]
    region = {"region": regions, "region_to": regions}
    drift = jacobian(truth["weights"], truth["coupling"], truth["gamma"])
    bold = simulate(drift, truth["noise"], 2 * frames, rng) * 50 + 1000
    parts = {"train": bold[:frames], "validation": bold[frames * 2 // 3 : frames], "test": bold[frames:]}
    found = {split: features(x, TR, SIGNAL) for split, x in parts.items()}
    frequency = found["test"]["frequency"]

    out = {}
    side = ["L"] * (n // 2) + ["R"] * (n // 2)
    out["connectome"] = xr.Dataset(
        {
            "weights": (("region", "region_to"), truth["weights"], {"units": "1", "long_name": "weights"}),
            "lengths": (("region", "region_to"), truth["lengths"], {"units": "mm", "long_name": "lengths"}),
        },
        coords=region
        | {"hemisphere": ("region", side), "homotope": ("region", truth["mirror"])}
        | {axis: ("region", truth["xyz"][:, k]) for k, axis in enumerate("xyz")},
        attrs={"normalisation": "mean_strength", "scale": 1.0, "transform": "linear"},
    )
    windows = max(f["fcd"].shape[0] for f in found.values())
    fcd = np.full((3, windows, windows), np.nan, np.float32)
    for k, f in enumerate(found.values()):
        fcd[k, : len(f["fcd"]), : len(f["fcd"])] = f["fcd"]
    split = ("split",)
    out["signal"] = xr.Dataset(
        {
            "bold": (("run", "time", "region"), bold[None].astype(np.float32)),
            "fc": ((*split, "region", "region_to"), np.array([f["fc"] for f in found.values()])),
            "lag1": ((*split, "region", "region_to"), np.array([f["lag1"] for f in found.values()])),
            "fcd": ((*split, "window", "window_to"), fcd),
            "psd": (
                (*split, "region", "frequency"),
                np.array([f["psd"] for f in found.values()]),
                {"units": "1/Hz"},
            ),
            "variance": ((*split, "region"), np.array([f["variance"] for f in found.values()])),
            "tsnr": ("region", bold.mean(axis=0) / bold.std(axis=0)),
            "n_frames": (split, np.array([f["n_frames"] for f in found.values()])),
            "effective_dof": (split, np.array([f["effective_dof"] for f in found.values()])),
            "metastability": (split, np.array([f["metastability"] for f in found.values()])),
        },
        coords=region | {"split": list(found), "frequency": frequency},
        attrs={
            "repetition_time": TR,
            "band": json.dumps(SIGNAL["band"]),
            "splits": "halves",
            "fcd_window_frames": 42,
            "fcd_step_frames": 8,
            "dvars_median": 0.38,
        },
    )

    # The fit: the true network, parameters off by a little; controls: other weights.
    coupling = truth["coupling"] * rng.lognormal(0, 0.1)
    gamma, noise = truth["gamma"] * rng.lognormal(0, 0.15, n), truth["noise"] * rng.lognormal(0, 0.15, n)
    networks = {"model": truth["weights"]}
    if controls:
        networks |= {
            "control_other_subject": truth_of(index + 1, n)["weights"],
            "control_edge_shuffle:0": edge_shuffle(truth["weights"], 0),
            "control_edge_shuffle:1": edge_shuffle(truth["weights"], 1),
            "control_uniform": uniform(truth["weights"]),
        }
    fc_model, psd_model = [], []
    for weights in networks.values():
        own = jacobian(weights, coupling, gamma)
        fc_model.append(correlation(covariance(own, noise)))
        psd_model.append(model_psd(own, noise, frequency))
    starts, steps = 3, 60
    loss = np.full((len(networks), starts, steps), np.nan)
    for p in range(len(networks)):
        for s in range(starts):
            stop = steps - 11 * s
            loss[p, s, :stop] = 0.02 + 0.004 * p + 0.3 * np.exp(-np.arange(stop) / (5 + 2 * s))
    names = ["coupling", "gamma", "noise"]
    values = np.stack([np.full(n, coupling), gamma, noise])
    estimate = np.broadcast_to(values, (len(networks), starts, 3, n)).copy()
    labels = list(networks)
    out["fit"] = xr.Dataset(
        {
            "estimate": (("predictor", "start", "parameter", "region"), estimate),
            "loss": (("predictor", "start", "step"), loss),
            "best_start": ("predictor", np.zeros(len(labels), int)),
            "n_steps": (("predictor", "start"), np.isfinite(loss).sum(axis=2)),
            "converged": (("predictor", "start"), np.ones((len(labels), starts), bool)),
            "stability_margin": ("predictor", np.full(len(labels), -np.linalg.eigvals(drift).real.max())),
            "fc_model": (("predictor", "region", "region_to"), np.array(fc_model)),
            "psd_model": (("predictor", "region", "frequency"), np.array(psd_model)),
        },
        coords=region
        | {
            "predictor": labels,
            "parameter": names,
            "frequency": frequency,
            "family": ("predictor", ["model_analytic" if p == "model" else p.split(":")[0] for p in labels]),
            "scope": ("parameter", ["global", "regional", "regional"]),
            "unit": ("parameter", ["1/s", "1/s", "1/sqrt(s)"]),
        },
    )
    sd = rng.uniform(0.1, 1.0, (3, n))
    sd[0] = 0.2
    sign = np.sign(values)
    edges = [sign * np.abs(values) * np.exp(k * 1.645 * sd) for k in (-1, 1)]
    contraction = 1 - sd
    count = 2 * n + 1
    out["posterior"] = xr.Dataset(
        {
            "sd": (("parameter", "region"), sd),
            "lower": (("parameter", "region"), np.minimum(*edges)),
            "upper": (("parameter", "region"), np.maximum(*edges)),
            "contraction": (("parameter", "region"), contraction),
            "estimate": (("parameter", "region"), values),
            "identified": (
                ("parameter", "region"),
                np.where(contraction >= 0.5, "yes", np.where(contraction >= 0.1, "weak", "no")),
            ),
            "eigenvalue": ("direction", np.logspace(4, -9, count)),
        },
        coords={"parameter": names, "region": regions},
        attrs={"level": 0.9},
    )

    own = jacobian(truth["weights"], coupling, gamma)
    runs = [simulate(own, noise, frames, rng) for _ in range(seeds)]
    simulated = [features(x, TR, SIGNAL) for x in runs]
    mean_fc = np.mean([f["fc"] for f in simulated], axis=0)
    out["simulation"] = xr.Dataset(
        {
            "bold": (("seed", "time", "region"), np.array(runs, np.float32)),
            "fc": (("seed", "region", "region_to"), np.array([f["fc"] for f in simulated])),
            "fcd": (("seed", "window", "window_to"), np.array([f["fcd"] for f in simulated], np.float32)),
            "psd": (("seed", "region", "frequency"), np.array([f["psd"] for f in simulated])),
            "fc_mean": (
                ("noise_level", "region", "region_to"),
                np.array([mean_fc, 0.5 * mean_fc + 0.5 * found["train"]["fc"]]),
            ),
        },
        coords=region | {"seed": np.arange(seeds), "frequency": frequency, "noise_level": [0.1, 0.3]},
        attrs={"dt": 0.072, "n_realisations": seeds, "diverged": 0},
    )

    rows = MetricRows(label, "LinearStep")
    for split in ("train", "test"):
        target = found[split]
        families: dict[str, list] = {}
        for name, fc in zip(labels, fc_model, strict=True):
            families.setdefault(name.split(":")[0], []).append(fc_scores(fc, target["fc"]))
        for family, each in families.items():
            rows.add_repeated(split, "model_analytic" if family == "model" else family, dict(enumerate(each)))
        simulated_mean = {
            key: np.mean([f[key] for f in simulated], axis=0) for key in ("fc", "lag1", "psd", "variance")
        }
        rows.add(
            split,
            "model_simulated",
            feature_scores(simulated_mean, target, frequency, SIGNAL["band"])
            | {"fcd_ks": 0.2 + 0.02 * index},
            n=seeds,
        )
        rows.add(split, "structural", fc_scores(truth["weights"], target["fc"]))
    rows.add(
        "test",
        "ceiling",
        feature_scores(found["train"], found["test"], frequency, SIGNAL["band"])
        | {"fcd_ks": 0.15 + 0.01 * index},
    )
    out["metrics"] = rows.to_dataset()
    return out, truth | {"coupling_fit": coupling}


def parameter_table(label: str, posterior: xr.Dataset) -> pd.DataFrame:
    """Rows of parameters.tsv of one subject."""
    units = {"coupling": "1/s", "gamma": "1/s", "noise": "1/sqrt(s)"}
    rows = []
    for name in posterior["parameter"].values:
        part = posterior.sel(parameter=name)
        for k, region in enumerate(part["region"].values):
            if name == "coupling" and k:
                break
            rows.append(
                (
                    label,
                    "LinearStep",
                    name,
                    "global" if name == "coupling" else region,
                    *(float(part[v][k]) for v in ("estimate", "lower", "upper")),
                    units[name],
                    str(part["identified"][k].values),
                )
            )
    return pd.DataFrame(
        rows,
        columns=[
            "subject",
            "model",
            "parameter",
            "region",
            "estimate",
            "lower",
            "upper",
            "unit",
            "identified",
        ],
    )


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
    """Write a study below `root`; returns the arguments of the report step by name.

    `failed` subjects have datasets that say so; one more subject, "99", has none at all, as when its files are missing.
    """
    root = Path(root)
    files: dict[str, list[str]] = {kind: [] for kind in KINDS}
    metrics, parameters, cohort, truths = [], [], [], []
    for index in range(n_subjects):
        label = f"{index + 1:02d}"
        if label in failed:
            reason = (
                f"sub-{label}: region 'Region_3_L' has zero variance; remove the subject or repair the file"
            )
            datasets = {kind: failed_dataset(kind, label, reason) for kind in KINDS}
            cohort.append((label, "no", reason))
        else:
            datasets, truth = subject_datasets(
                label, index, n=n, frames=frames, seeds=seeds, controls=controls
            )
            metrics.append(averaged_rows(datasets["metrics"]))
            parameters.append(parameter_table(label, datasets["posterior"]))
            cohort.append((label, "yes", ""))
            regions = datasets["signal"]["region"].values
            truths.append((label, "coupling", "global", truth["coupling"], "1/s"))
            truths += [
                (label, name, region, truth[name][k], "1/s")
                for name in ("gamma", "noise")
                for k, region in enumerate(regions)
            ]
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
    cohort.append(("99", "no", "sub-99: no file sub-99/dwi/sub-99_atlas-x_meas-weight_relmat.tsv"))
    columns = ["subject", "model", "split", "predictor", "metric", "value", "n"]
    table = pd.concat(metrics) if metrics else pd.DataFrame(columns=columns)
    means = (
        [
            ("group", "LinearStep", split, predictor, metric, part["value"].mean(), len(part))
            for (split, predictor, metric), part in table.groupby(["split", "predictor", "metric"])
        ]
        if metrics
        else []
    )
    table = pd.concat([table, pd.DataFrame(means, columns=columns)]) if means else table
    table.to_csv(root / "metrics.tsv", sep="\t", index=False)
    empty = pd.DataFrame(
        columns=[
            "subject",
            "model",
            "parameter",
            "region",
            "estimate",
            "lower",
            "upper",
            "unit",
            "identified",
        ]
    )
    (pd.concat(parameters) if parameters else empty).to_csv(root / "parameters.tsv", sep="\t", index=False)
    pd.DataFrame(cohort, columns=["subject", "included", "reason"]).to_csv(
        root / "cohort.tsv", sep="\t", index=False
    )
    pd.DataFrame(truths, columns=["subject", "parameter", "region", "value", "unit"]).to_csv(
        root / "truth.tsv", sep="\t", index=False
    )
    group = xr.Dataset(
        attrs={"kind": "group", "subject": "", "study": "synthetic", "status": "ok", "reason": ""}
        | provenance_attrs("group", PARAMS, {}, seed=0, precision="float64")
    )
    write_dataset(root / "group.zarr.zip", group)
    for rule, seconds in (("fit", 31.5), ("simulate", 12.25)):
        path = root / "benchmarks" / rule / "batch-001.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
            f"{seconds}\t0:00:31\t512.3\t1\t1\t1\t0\t0\t98.5\t30\n"
        )
    return {"files": files, "root": root}


def arguments(study: dict, output: Path, *, truth: bool = True, benchmarks: bool = True) -> list[str]:
    """Command line of the report step for a study of `build_study`."""
    root = study["root"]
    args = ["--group", str(root / "group.zarr.zip"), "--tables", str(root)]
    for kind, paths in study["files"].items():
        args += [f"--{kind}", *paths]
    args += [
        "--output",
        str(output),
        "--provenance",
        str(output.with_name("provenance.json")),
        "--params",
        json.dumps(PARAMS),
    ]
    args += ["--truth", str(root / "truth.tsv")] if truth else []
    args += ["--benchmarks", str(root / "benchmarks")] if benchmarks else []
    return args
