"""The part of the group dataset and of the tables that says how reliable fits are, and what the connectome is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainloom.analysis.fc import fisher_z
from brainloom.analysis.reliability import assess

PREDICTOR = "model_interpretation"
Row = tuple[str, str, str, str, str, float, int]


def reliability_part(
    curves: Mapping[str, xr.Dataset], held_out: Mapping[str, np.ndarray], model: str, seed: int
) -> tuple[list[Row], xr.Dataset, str]:
    """
    Assess the fits of a cohort along the grid of regularisation.

    Parameters
    ----------
    curves : mapping of str to xarray.Dataset
        Reliability datasets by subject; failed ones, and those without some controls of the others, are left out.
    held_out : mapping of str to (region, region) array
        FC of the held-out part.
    model : str
        Name of the model.
    seed : int
        Of the bootstrap.

    Returns
    -------
    rows : list of tuple
        Of metrics.tsv: predictor ``model_interpretation``.
    dataset : xarray.Dataset
        Variables whose names begin with ``reliability_``; empty if there is nothing to compare.
    reason : str
        Why there is nothing, or who was left out; else empty.
    """
    usable = {
        subject: ds
        for subject, ds in curves.items()
        if ds.attrs["status"] == "ok" and subject in held_out and bool(np.isfinite(ds["theta"]).all())
    }
    if len(usable) < 3:
        reason = f"Reliability over subjects needs at least three of them with fits to all parts, and there are {len(usable)}."
        return [], xr.Dataset(), reason
    names = [str(name) for name in next(iter(usable.values()))["predictor"].values]
    shared = [name for name in names if all(name in ds["predictor"].values for ds in usable.values())]

    def stack(name: str) -> np.ndarray:
        return np.stack(
            [
                ds[name].sel(predictor=shared) if "predictor" in ds[name].dims else ds[name]
                for ds in usable.values()
            ]
        )

    first = next(iter(usable.values()))
    fields = first["field"].values.astype(str)
    regional = {str(name): np.flatnonzero(fields == name) for name in dict.fromkeys(fields)}
    regional = {name: places for name, places in regional.items() if len(places) > 1} or regional
    test = stack("fc_r_test")
    found = assess(
        stack("theta"),
        stack("fc_r_validation"),
        {name: slice(places[0], places[-1] + 1) for name, places in regional.items()},
        stack("fc_model").astype(np.float64),
        stack("fc_model_test").astype(np.float64),
        np.stack([held_out[subject] for subject in usable]),
        test,
        shared,
        seed,
    )
    rows: list[Row] = []
    train = stack("fc_r_train")
    for k, subject in enumerate(usable):
        for split, values in (("train", train), ("test", test)):
            r = float(values[k, found.chosen, 0])
            rows += [
                (subject, model, split, PREDICTOR, "fc_r", r, 1),
                (subject, model, split, PREDICTOR, "fc_z", float(fisher_z(r)), 1),
            ]
        rows.append((subject, model, "test", PREDICTOR, "identification", float(found.identified[k]), 1))
    for split, values in (("train", train), ("test", test)):
        mean = float(np.mean(values[:, found.chosen, 0]))
        rows.append(("group", model, split, PREDICTOR, "fc_r", mean, 1))
    rows.append(("group", model, "test", PREDICTOR, "identification", float(np.mean(found.identified)), 1))
    icc = np.nanmedian([np.nanmedian(found.icc_halves[found.chosen, places]) for places in regional.values()])
    rows.append(("group", model, "test", PREDICTOR, "icc", float(icc), 1))
    for of, metric in (("fc", "discriminability"), ("parameters", "parameter_discriminability")):
        one = found.discriminability[found.chosen, of]
        rows.append(("group", model, "test", PREDICTOR, metric, one.value, 1))
        rows.append(("group", model, "test", PREDICTOR, f"{metric}_p", one.p_value, 1))
    left_out = [subject for subject in curves if subject not in usable]
    text = (
        f"Reliability is that of the others: {', '.join(left_out)} lacks fits to some part."
        if left_out
        else ""
    )
    return rows, _dataset(found, first, list(usable), shared, test, list(regional)), text


def _dataset(
    found: Any, first: xr.Dataset, subjects: list[str], names: list[str], test: np.ndarray, fields: list[str]
) -> xr.Dataset:
    strengths = first["strength"].values

    def difference(key: str) -> np.ndarray:
        return np.array(
            [
                [
                    getattr(found.comparisons[k, name], key) if (k, name) in found.comparisons else np.nan
                    for name in names[1:]
                ]
                for k in range(len(strengths))
            ]
        )

    grid, control = "reliability_strength", "reliability_control"
    one = {"units": "1"}
    data: dict[str, tuple] = {
        "validation": ((grid,), found.validation, one | {"long_name": "mean fc_r on the validation part"}),
        "validation_se": (
            (grid,),
            found.validation_se,
            one | {"long_name": "standard error of its difference to the best"},
        ),
        "icc_inside": (
            (grid, "reliability_field"),
            found.icc_inside,
            one | {"long_name": "median ICC(3,1) between the halves of the training part"},
        ),
        "icc_halves": (
            (grid, "reliability_coordinate"),
            found.icc_halves,
            one | {"long_name": "ICC(3,1) between training and held-out part"},
        ),
        "fc_r": (
            ("reliability_subject", grid, "reliability_predictor"),
            test,
            one | {"long_name": "held-out fc_r of fits to the training part"},
        ),
    }
    for key, text in (
        ("mean", "mean held-out fc_r of the own connectome minus the control"),
        ("lower", "lower end of its 95% bootstrap interval"),
        ("upper", "upper end of its 95% bootstrap interval"),
        ("p_value", "p of the two-sided Wilcoxon signed-rank test"),
    ):
        data[f"worth_{key}"] = ((grid, control), difference(key), one | {"long_name": text})
    of = ("fc", "parameters")
    for key, name, text in (
        (
            "value",
            "discriminability",
            "discriminability between fits to the training and to the held-out part",
        ),
        ("p_value", "discriminability_p_value", "p of its permutation test"),
    ):
        values = [
            [getattr(found.discriminability[k, kind], key) for kind in of] for k in range(len(strengths))
        ]
        data[name] = ((grid, "reliability_of"), np.array(values), one | {"long_name": text})
    coords = {
        grid: (grid, strengths, one | {"long_name": "weight of the squared log deviation"}),
        "reliability_field": ("reliability_field", np.array(fields, dtype=str)),
        "reliability_of": ("reliability_of", np.array(of)),
        "reliability_coordinate": ("reliability_coordinate", first["coordinate"].values),
        "reliability_coordinate_field": ("reliability_coordinate", first["field"].values),
        "reliability_subject": ("reliability_subject", np.array(subjects, dtype=str)),
        "reliability_predictor": ("reliability_predictor", np.array(names, dtype=str)),
        control: (control, np.array(names[1:], dtype=str)),
    }
    named = {f"reliability_{name}": value for name, value in data.items()}
    return xr.Dataset(named, coords=coords, attrs={"reliability_chosen": found.chosen})
