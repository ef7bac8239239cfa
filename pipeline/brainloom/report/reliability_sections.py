"""What the report says of regularisation: the worth of the connectome, the reliability of fields, and of pooled fits."""

from __future__ import annotations

import numpy as np
import xarray as xr

from brainloom.report.figure import draw
from brainloom.report.names import number, parameter_name, predictor_colour, predictor_name, signed
from brainloom.report.results import Results
from brainloom.report.style import GRID, INK, MUTED, new_figure

#: Differences with a smaller p are called differences.
LEVEL = 0.05
#: Colours of fields in the figure of ICC.
_FIELDS = ("#0b6fb8", "#0a9b7b", "#8f6fc0", "#b8501a")


def reliability_section(results: Results) -> dict:
    """
    Parts of the page that only studies with ``reliability`` or ``pool`` have.

    Returns
    -------
    dict
        ``reliability``: figures and sentences, or None; ``pooling``: rows of candidates and a sentence, or None.
    """
    from brainloom.store import read_dataset

    if results.group is None:
        return {"reliability": None, "pooling": None}
    ds = read_dataset(results.group)
    return {
        "reliability": _reliability(ds) if "reliability_validation" in ds else None,
        "pooling": _pooling(ds) if "pool_score" in ds else None,
    }


def _reliability(ds: xr.Dataset) -> dict:
    figures = [
        draw(
            worth_figure,
            ds,
            name="connectome-worth",
            wide=True,
            title="What the connectome is worth",
            caption="Mean held-out FC correlation of fits to the training part, by strength of the penalty (left is weak); right: "
            "own connectome minus each control, with 95 % bootstrap intervals over subjects. With a weak penalty regional "
            "fields make up for any wiring. Dashed: the strength for interpretation.",
            alt="Held-out FC correlation of the own connectome and of controls against the strength of regularisation.",
        ),
        draw(
            icc_figure,
            ds,
            name="reliability",
            wide=True,
            title="Fit against reliability",
            caption="Left: FC correlation on the validation part, with the standard error of the difference to the best. "
            "Right: median ICC(3,1) of the coordinates of each field between the halves of the training part (lines), which "
            "chooses, and between training and held-out part (dotted), which does not. Dashed: the strength for "
            "interpretation, the most reliable within one standard error of the best.",
            alt="Validation score and intraclass correlation of regional parameters against the strength of regularisation.",
        ),
    ]
    return {"figures": figures, "sentences": reliability_sentences(ds)}


def reliability_sentences(ds: xr.Dataset) -> list[str]:
    """
    State the strength for interpretation, how reliable its fields are, and whether the own connectome matters.

    Parameters
    ----------
    ds : xarray.Dataset
        Group dataset.
    """
    chosen = int(ds.attrs["reliability_chosen"])
    strength = float(ds["reliability_strength"][chosen])
    own = ds["reliability_fc_r"].sel(reliability_predictor="model")[:, chosen]
    out = [
        f"For interpretation the fit takes lambda {strength:g}: held-out FC correlation {number(float(own.mean()))}, "
        "mean over subjects."
    ]
    fields = ds["reliability_coordinate_field"].values.astype(str)
    halves = ds["reliability_icc_halves"].values[chosen]
    texts = [
        f"{parameter_name(name)} {number(float(np.nanmedian(halves[fields == name])), 2)}"
        for name in ds["reliability_field"].values.astype(str)
    ]
    out.append(
        f"Median ICC(3,1) of its regional parameters between both halves of the data: {', '.join(texts)}."
    )
    if "reliability_discriminability" in ds:
        found = ds["reliability_discriminability"].isel(reliability_strength=chosen)
        chance = ds["reliability_discriminability_p_value"].isel(reliability_strength=chosen)
        kinds = {"fc": "FC of the models", "parameters": "parameters"}
        texts = [
            f"{text} {number(float(found.sel(reliability_of=key)), 2)} (p {number(float(chance.sel(reliability_of=key)), 4)})"
            for key, text in kinds.items()
        ]
        out.append(f"Discriminability between both halves of the data: {', '.join(texts)}; chance is 0.5.")
    better: list[str] = []
    alike: list[str] = []
    for name in ds["reliability_control"].values.astype(str):
        at = {"reliability_strength": chosen}
        mean, p = (
            float(ds[f"reliability_worth_{key}"].sel(reliability_control=name).isel(at))
            for key in ("mean", "p_value")
        )
        if not np.isfinite(mean):
            continue
        label = predictor_name(name.split(":")[0]).removeprefix("Control: ")
        text = f"{label} by {signed(mean)} (p {number(p, 2)})"
        (better if mean > 0.0 and p < LEVEL else alike).append(text)
    if better:
        out.append(
            f"At this strength the own connectome predicts better than {'; '.join(better)}: Wilcoxon tests."
        )
    if alike:
        out.append(f"It is not shown to predict better than {'; '.join(alike)}.")
    return out


def worth_figure(ds: xr.Dataset):
    """Held-out score against strength: every predictor, and the own connectome minus each control."""
    strength = ds["reliability_strength"].values
    mean = ds["reliability_fc_r"].mean("reliability_subject").transpose("reliability_predictor", ...).values
    names = ds["reliability_predictor"].values.astype(str)
    figure = new_figure(9.6, 3.4)
    left, right = figure.subplots(1, 2)
    seen: set[str] = set()
    for name, values in zip(names, mean, strict=True):
        family = "model_analytic" if name == "model" else name.split(":")[0]
        label = "Own connectome" if name == "model" else predictor_name(family).removeprefix("Control: ")
        left.plot(
            strength, values, color=predictor_colour(family), marker="o", ms=3.5, lw=2.0 if name == "model" else 1.1,
            label=None if family in seen else label, zorder=3 if name == "model" else 2,
        )  # fmt: skip
        seen.add(family)
    left.set_ylabel("Held-out FC correlation r")
    left.legend(fontsize=7, frameon=False)
    controls = ds["reliability_control"].values.astype(str)
    right.axhline(0.0, color=INK, lw=0.8)
    for k, name in enumerate(controls):
        worth, low, high = (
            ds[f"reliability_worth_{key}"].sel(reliability_control=name).values
            for key in ("mean", "lower", "upper")
        )
        shifted = strength * 1.05 ** (k - 0.5 * (len(controls) - 1))
        right.errorbar(
            shifted, worth, np.stack([worth - low, high - worth]), color=predictor_colour(name.split(":")[0]),
            marker="o", ms=3.5, lw=1.1, elinewidth=0.8,
        )  # fmt: skip
    right.set_ylabel("Own minus control")
    _finish(ds, (left, right))
    return figure


def icc_figure(ds: xr.Dataset):
    """Validation score and ICC of every field against strength."""
    strength = ds["reliability_strength"].values
    figure = new_figure(9.6, 3.2)
    left, right = figure.subplots(1, 2)
    left.errorbar(
        strength, ds["reliability_validation"].values, ds["reliability_validation_se"].values, color="#0b6fb8",
        marker="o", ms=3.5, lw=1.6, elinewidth=0.8,
    )  # fmt: skip
    left.set_ylabel("Validation FC correlation r")
    places = ds["reliability_coordinate_field"].values.astype(str)
    halves = ds["reliability_icc_halves"].values
    for k, name in enumerate(ds["reliability_field"].values.astype(str)):
        colour = _FIELDS[k % len(_FIELDS)]
        inside = ds["reliability_icc_inside"].sel(reliability_field=name).values
        right.plot(strength, inside, color=colour, marker="o", ms=3.5, lw=1.6, label=parameter_name(name))
        right.plot(strength, np.nanmedian(halves[:, places == name], axis=1), color=colour, lw=1.2, ls=":")
    right.axhline(0.0, color=GRID, lw=0.8)
    right.set_ylabel("Median ICC(3,1)")
    right.legend(fontsize=7, frameon=False)
    _finish(ds, (left, right))
    return figure


def _finish(ds: xr.Dataset, panels) -> None:
    chosen = float(ds["reliability_strength"][int(ds.attrs["reliability_chosen"])])
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlabel("Strength of the penalty (lambda)")
        axes.axvline(chosen, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)


def _pooling(ds: xr.Dataset) -> dict:
    mean = ds["pool_score"].mean("pool_subject").values
    chosen = int(ds.attrs["pool_chosen"])
    rows = [
        {
            "rank": int(ds["pool_rank"][k]),
            "strength": f"{float(ds['pool_strength'][k]):g}",
            "learned": "learned" if bool(ds["pool_learned"][k]) else "one for all",
            "maps": f"{float(ds['pool_maps'][k]):g}" if float(ds["pool_maps"][k]) else "off",
            "directions": int(ds["pool_directions"][k]),
            "target": "shrunk" if bool(ds["pool_shrunk"][k]) else "own",
            "score": number(float(mean[k])),
            "chosen": "yes" if k == chosen else "",
        }
        for k in range(len(mean))
    ]
    weight = ds["pool_own_weight"].values
    text = (
        "Every subject was fitted again around a prior from the others (predictor Model (pooled)). The number of common inputs, "
        "the strength of the prior, what it learns of the cohort and the weight of the own FC were chosen inside the training parts; after "
        f"rescaling by effective degrees of freedom the own FC weighs {number(float(weight.min()), 2)} to "
        f"{number(float(weight.max()), 2)}."
    )
    return {"rows": rows, "text": text, "maps": _maps(ds), "text_of_maps": _text_of_maps(ds, chosen)}


def _text_of_maps(ds: xr.Dataset, chosen: int) -> str:
    if "pool_map_coefficient" not in ds:
        return ""
    strength = float(ds["pool_maps"][chosen])
    kept = (
        f"were kept (strength {strength:g})"
        if strength
        else "did not improve the validation score and are off"
    )
    return (
        f"Brain maps as regional priors {kept}. Coefficients in the fields of the fits to the other subjects: log of the field "
        "per standard deviation of the map, with jackknife standard errors over subjects or folds. They say how sure the cohort "
        "is of a coefficient, not whether a smooth map without meaning would do as well: maps of the brain share spatial "
        "autocorrelation."
    )


def _maps(ds: xr.Dataset) -> list[dict]:
    if "pool_map_coefficient" not in ds:
        return []
    return [
        {
            "field": str(field),
            "map": str(name),
            "coefficient": number(float(ds["pool_map_coefficient"][i, j])),
            "error": number(float(ds["pool_map_error"][i, j])),
        }
        for i, field in enumerate(ds["pool_field"].values)
        for j, name in enumerate(ds["pool_map"].values)
    ]
