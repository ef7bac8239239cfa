"""Parts of the group dataset that only some studies have: pooled fits, and effects of covariates."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def with_pool(ds: xr.Dataset, pool: xr.Dataset) -> tuple[xr.Dataset, str]:
    """
    Add what pooling has chosen and learned to the group dataset, under names that begin with ``pool_``.

    Parameters
    ----------
    ds, pool : xarray.Dataset

    Returns
    -------
    dataset : xarray.Dataset
    reason : str
        Why there are no pooled fits; empty if there are.
    """
    from brainloom.store import is_failed

    if is_failed(pool):
        return ds, str(pool.attrs["reason"])
    kept = pool.drop_vars("group_estimate").drop_dims("fold", errors="ignore").reset_coords()
    kept = kept.drop_vars([name for name in ("parameter", "unit", "region") if name in kept.variables])
    names = {name: f"pool_{name}" for name in (*kept.variables, *kept.dims)}
    return ds.assign(kept.rename(names).variables).assign_attrs(pool_chosen=int(pool.attrs["chosen"])), ""


def with_effects(
    ds: xr.Dataset,
    parameters: Sequence[tuple],
    motion: dict[str, tuple[float, str]],
    participants: Path | None,
    params: dict[str, Any],
) -> tuple[xr.Dataset, list[tuple]]:
    """
    Add effects of covariates on parameters to the group dataset, under names that begin with ``effect_``.

    Parameters
    ----------
    ds : xarray.Dataset
    parameters : sequence of tuple
        Rows of parameters.tsv.
    motion : dict of str to (float, str)
        Median DVARS and its unit by subject.
    participants : pathlib.Path or None
        Table of covariates.
    params : dict
        Section ``group`` and ``seed``.

    Returns
    -------
    dataset : xarray.Dataset
    rows : list of tuple
        Of effects.tsv.
    """
    from brainloom.analysis.group_effects import effects_part, with_motion
    from brainloom.io.participants import read_covariates

    known = with_motion({} if participants is None else read_covariates(participants), motion)
    rows, found, notes = effects_part(parameters, known, params["group"], params["seed"])
    for note in notes:
        print(f"group: {note}", file=sys.stderr)
    return ds.merge(found, combine_attrs="no_conflicts").assign_attrs(effect_notes=json.dumps(notes)), rows
