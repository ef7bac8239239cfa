"""Site effects are taken out, effects of covariates stay."""

import numpy as np
import pytest

from brainloom.analysis.harmonise import harmonise, site_problem

SITES = np.repeat(["a", "b", "c"], [12, 15, 18])
SHIFT = {"a": 1.5, "b": -2.0, "c": 0.4}
SCALE = {"a": 0.5, "b": 1.0, "c": 2.0}


def cohort(seed=0, m=60):
    """Sites of different age; every feature falls with age; shifts and scales of sites differ a little by feature."""
    random = np.random.default_rng(seed)
    older = np.array([{"a": 0.0, "b": 1.2, "c": -1.2}[s] for s in SITES])
    age = older + random.normal(size=len(SITES))
    clean = -0.8 * age[:, None] + random.normal(size=(len(SITES), m))
    values = np.empty_like(clean)
    for name in SHIFT:
        at = name == SITES
        shift = SHIFT[name] + 0.3 * random.normal(size=m)
        scale = SCALE[name] * np.exp(0.1 * random.normal(size=m))
        values[at] = -0.8 * age[at, None] + shift + scale * (clean[at] + 0.8 * age[at, None])
    return values, age


def residual(values, age):
    """Without age, fitted inside of sites."""
    member = (SITES[:, None] == np.array(["a", "b", "c"])).astype(float)
    design = np.column_stack([member, age])
    beta = np.linalg.lstsq(design, values, rcond=None)[0]
    return beta[:3], beta[3], values - design @ beta


def test_shifts_and_scales_go_and_the_covariate_stays():
    values, age = cohort()
    before = residual(values, age)
    after = residual(harmonise(values, SITES, age[:, None]), age)
    # Shifts differ by 3.5 before; standard error of a site's mean of unit noise is at most 0.3, shrinkage leaves some of it.
    assert np.ptp(before[0].mean(axis=1)) > 3.0
    assert np.ptp(after[0].mean(axis=1)) < 0.1
    assert np.abs(after[0] - after[0].mean(axis=0)).mean() < 0.25
    spread = np.array([after[2][name == SITES].std(axis=0, ddof=1).mean() for name in SHIFT])
    assert spread.max() / spread.min() < 1.1
    # Slope by feature: standard error 0.15 to 0.2 before, mean of 60 features.
    np.testing.assert_allclose(after[1].mean(), before[1].mean(), atol=0.1)
    assert after[1].mean() == pytest.approx(-0.8, abs=0.15)


def test_without_the_covariate_its_effect_between_sites_would_go_too():
    values, age = cohort()
    kept = harmonise(values, SITES, age[:, None])
    gone = harmonise(values, SITES, np.empty((len(SITES), 0)))
    slope = [np.polyfit(age, one.mean(axis=1), 1)[0] for one in (kept, gone)]
    assert slope[0] < slope[1] - 0.1


def test_shrunken_shifts_are_nearer_to_the_truth_than_means():
    """One site with one shift of all 200 features, no scale: squared error of the estimated shift."""
    random = np.random.default_rng(1)
    sites = np.repeat(["a", "b"], [40, 4])
    noise = random.normal(size=(44, 200))
    values = noise + np.where(sites == "b", 2.0, 0.0)[:, None]
    out = harmonise(values, sites, np.empty((44, 0)))
    taken = values - out
    # What is taken from b more than from a, at the mean over subjects; the truth is 2 in all features.
    shrunk = taken[40:].mean(axis=0) - taken[:40].mean(axis=0)
    means = values[40:].mean(axis=0) - values[:40].mean(axis=0)
    assert ((shrunk - 2) ** 2).mean() < 0.5 * ((means - 2) ** 2).mean()


def test_one_feature_gets_the_mean_and_spread_of_all():
    values, _ = cohort(m=1)
    out = harmonise(values, SITES, np.empty((len(SITES), 0)))
    means = [out[name == SITES].mean() for name in SHIFT]
    spreads = [out[name == SITES].std(ddof=1) for name in SHIFT]
    np.testing.assert_allclose(means, values.mean(), atol=1e-9)
    np.testing.assert_allclose(spreads, spreads[0], rtol=1e-9)


def test_refusals_are_one_sentence():
    few = ["a"] * 5 + ["b"] * 2
    assert "fewer than 3 subjects each: b (2)" in site_problem(few)
    assert "one site (a)" in site_problem(["a", "a"])
    with pytest.raises(ValueError, match="cannot be told from the site"):
        harmonise(np.zeros((8, 3)), ["a"] * 4 + ["b"] * 4, np.repeat([0.0, 1.0], 4)[:, None])
