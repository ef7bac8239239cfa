"""What the report says of effects of covariates on the fitted parameters."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from brainloom.report.figure import draw
from brainloom.report.names import number, parameter_name
from brainloom.report.results import Results
from brainloom.report.style import INK, diverging_map, new_figure

#: Values of a test in its table.
SHOWN = 8
#: Corrected p below which a region is marked.
LEVEL = 0.05
_KINDS = {"partial_r": "partial r", "cohen_d": "Cohen's d", "partial_eta2": "partial \u03b7\u00b2"}


def effect_section(results: Results) -> dict:
    """
    Parts of the page that only studies with ``group.tests`` have.

    Returns
    -------
    dict
        ``effects``: ``notes`` (sentences), ``text``, ``tests`` (table and figure each); None without tests.
    """
    from brainloom.store import read_dataset

    if results.group is None:
        return {"effects": None}
    ds = read_dataset(results.group)
    if "effect_notes" not in ds.attrs:
        return {"effects": None}
    notes = json.loads(ds.attrs["effect_notes"])
    if "effect_p" not in ds:
        return {"effects": {"notes": notes, "text": "", "tests": []}}
    group = results.params.get("group") or {}
    return {
        "effects": {
            "notes": notes,
            "text": _text(ds, group),
            "tests": [_test(ds, k) for k in range(ds.sizes["effect_test"])],
        }
    }


def _text(ds: xr.Dataset, group: dict) -> str:
    text = (
        "Linear models over subjects, tested by permutation of the residuals of the nuisance (Freedman and Lane). Parameters of "
        "one sign are tested as logarithms of their magnitude. Corrected p: for the regions of one field, by the largest "
        "statistic; FDR: Benjamini-Hochberg over all values of all tests."
    )
    if group.get("harmonise"):
        text += f" Effects of {group['harmonise']} on mean and spread were taken out before (ComBat)."
    names, share = ds["effect_parameter"].values.astype(str), ds["effect_identified"].values
    regional = ds["effect_region"].values.astype(str) != "global"
    parts = [
        f"{parameter_name(name)} {int((share[inside] > 0.5).sum())} of {int(inside.sum())}"
        for name in dict.fromkeys(names[regional].tolist())
        if (inside := regional & (names == name)).any()
    ]
    if parts:
        text += (
            f" Regions whose value is identified in more than half of the subjects: {', '.join(parts)}; elsewhere estimates "
            "lean on the prior, which hides effects rather than making them."
        )
    return text


def _test(ds: xr.Dataset, k: int) -> dict:
    one = ds.isel(effect_test=k)
    kind, groups = str(one["effect_kind"].item()), str(one["effect_groups"].item())
    p, statistic = one["effect_p"].values, np.abs(one["effect_statistic"].values)
    order = [j for j in np.lexsort((-np.nan_to_num(statistic), p)) if np.isfinite(p[j])][:SHOWN]
    rows = [
        {
            "parameter": parameter_name(str(one["effect_parameter"].values[j])),
            "region": str(one["effect_region"].values[j]),
            "statistic": number(float(one["effect_statistic"].values[j]), 2),
            "size": number(float(one["effect_size"].values[j]), 2),
            "interval": f"{number(float(one['effect_size_lower'].values[j]), 2)} to "
            f"{number(float(one['effect_size_upper'].values[j]), 2)}",
            "p": number(float(p[j]), 4),
            "p_fwe": number(float(one["effect_p_fwe"].values[j]), 4),
            "p_fdr": number(float(one["effect_p_fdr"].values[j]), 4),
        }
        for j in order
    ]
    name = str(one["effect_test"].item())
    head = name.replace(" | ", ", adjusted for ")
    if kind == "cohen_d":
        first, second = groups.split(", ", 1)
        head += f" ({second} minus {first})"
    figure = draw(
        effect_map,
        one,
        name=f"effects-{k}",
        wide=True,
        title=f"Effects of {head}",
        caption=f"{_KINDS[kind]} in every region, in the order of the atlas. Dots: p < {LEVEL} corrected for the regions of the "
        "field.",
        alt=f"Effect sizes of {name} on every regional parameter.",
    )
    return {
        "title": head[:1].upper() + head[1:],
        "statistic": "F" if kind == "partial_eta2" else "t",
        "kind": _KINDS[kind],
        "rows": rows,
        "figure": figure,
    }


def effect_map(one: xr.Dataset):
    """Effect size of one test, one row a regional field, one column a region; None without regional fields."""
    names, regions = (one[f"effect_{key}"].values.astype(str) for key in ("parameter", "region"))
    regional = regions != "global"
    size, corrected = one["effect_size"].values, one["effect_p_fwe"].values
    if not np.isfinite(size[regional]).any():
        return None
    fields = list(dict.fromkeys(names[regional].tolist()))
    places = list(dict.fromkeys(regions[regional].tolist()))
    image = np.full((len(fields), len(places)), np.nan)
    marked = []
    for j in np.flatnonzero(regional):
        at = fields.index(names[j]), places.index(regions[j])
        image[at] = size[j]
        if corrected[j] < LEVEL:
            marked.append(at)
    figure = new_figure(9.6, 0.9 + 0.4 * len(fields))
    axes = figure.subplots()
    limit = float(np.nanmax(np.abs(image))) or 1.0
    drawn = axes.imshow(image, cmap=diverging_map(), vmin=-limit, vmax=limit, aspect="auto")
    if marked:
        axes.plot([x for _, x in marked], [y for y, _ in marked], ".", color=INK, ms=4)
    axes.set_yticks(range(len(fields)), [parameter_name(name) for name in fields])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Region, in the order of the atlas")
    bar = figure.colorbar(drawn, ax=axes, pad=0.012, fraction=0.03)
    bar.set_label(_KINDS[str(one["effect_kind"].item())])
    bar.outline.set_visible(False)
    return figure
