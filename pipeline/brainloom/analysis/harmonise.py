"""Site effects taken out of estimates: location and scale by empirical Bayes (ComBat)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Fewer subjects than this at a site do not tell its spread.
SMALLEST_SITE = 3


def site_problem(sites: Sequence[str]) -> str:
    """
    Why sites cannot be harmonised, in one sentence; empty if they can.

    Parameters
    ----------
    sites : sequence of str
        Site of each subject.
    """
    names, counts = np.unique(np.asarray(sites, dtype=str), return_counts=True)
    if len(names) < 2:
        return f"All subjects are of one site ({', '.join(names)}), so there is nothing to harmonise."
    few = [f"{name} ({n})" for name, n in zip(names, counts, strict=True) if n < SMALLEST_SITE]
    if few:
        return (
            f"Sites cannot be harmonised with fewer than {SMALLEST_SITE} subjects each: {', '.join(few)}; leave these "
            "subjects out, or set group.harmonise to null."
        )
    return ""


def harmonise(
    values: np.ndarray, sites: Sequence[str], kept: np.ndarray, *, tolerance: float = 1e-8
) -> np.ndarray:
    """
    Take out of every feature the mean and the spread of each site, and leave what covariates explain.

    ``y = alpha + X beta + gamma_site + delta_site e``: gamma and delta^2 of a site are shrunk towards those of its
    other features by a normal and an inverse gamma prior, whose parameters come from the data (Johnson, Li &
    Rabinovic 2007, Biostatistics 8:118, parametric). A feature by itself is not shrunk.

    Parameters
    ----------
    values : (subject, feature) array
        Features of one kind, such as the regions of a field.
    sites : sequence of str
        Site of each subject, at least two of them with `SMALLEST_SITE` subjects each.
    kept : (subject, covariate) array
        Covariates whose effect stays, without a constant; may have no column.
    tolerance : float
        Relative change at which the iteration ends.

    Returns
    -------
    (subject, feature) array

    Raises
    ------
    ValueError
        Sites are too small, or a covariate cannot be told from them.
    """
    names, place = np.unique(np.asarray(sites, dtype=str), return_inverse=True)
    if problem := site_problem(sites):
        raise ValueError(problem)
    values = np.asarray(values, dtype=np.float64)
    n, n_features = values.shape
    member = (place[:, None] == np.arange(len(names))).astype(np.float64)
    kept = np.asarray(kept, dtype=np.float64).reshape(n, -1)
    kept = kept - kept.mean(axis=0)
    design = np.hstack([member, kept])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("Sites cannot be harmonised: a covariate of the test cannot be told from the site.")
    beta = np.linalg.lstsq(design, values, rcond=None)[0]
    explained = kept @ beta[len(names) :] + member.mean(axis=0) @ beta[: len(names)]
    spread = np.sqrt(((values - design @ beta) ** 2).mean(axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    z = (values - explained) / spread
    out = np.empty_like(z)
    for site in range(len(names)):
        rows = z[place == site]
        shift, variance = _shrunk(rows, tolerance) if n_features > 1 else (rows.mean(0), rows.var(0, ddof=1))
        scale = np.sqrt(variance)
        out[place == site] = (rows - shift) / np.where(scale > 0, scale, 1.0)
    return out * spread + explained


def _shrunk(rows: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of one site: (feature,) each, from its standardised rows (subject, feature)."""
    n = len(rows)
    mean, variance = rows.mean(axis=0), rows.var(axis=0, ddof=1)
    centre, width = mean.mean(), mean.var(ddof=1)
    m, v = variance.mean(), variance.var(ddof=1)
    if width <= 0 or v <= 1e-12 * m**2:  # features agree: nothing is learned from their spread
        return mean, variance
    shape, rate = 2 + m**2 / v, m + m**3 / v
    shift, spread = mean, variance
    for _ in range(500):
        new_shift = (n * width * mean + spread * centre) / (n * width + spread)
        squares = ((rows - new_shift) ** 2).sum(axis=0)
        new_spread = (rate + 0.5 * squares) / (0.5 * n + shape - 1)
        change = max(np.abs(new_shift - shift).max(), np.abs(new_spread / spread - 1).max())
        shift, spread = new_shift, new_spread
        if change < tolerance:
            break
    return shift, spread
