"""Linear models tested by permutation, against closed forms and exact enumeration."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from brainloom.analysis.group_tests import permutation_test, rearrangements


def ordinary_t(values, interest, nuisance):
    """t of the last column by the normal equations, written out."""
    design = np.hstack([nuisance, interest])
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ values
    df = len(values) - design.shape[1]
    variance = ((values - design @ beta) ** 2).sum(axis=0) / df
    return beta[-1], beta[-1] / np.sqrt(variance * inverse[-1, -1]), df


def case(n=24, m=5, seed=0):
    random = np.random.default_rng(seed)
    nuisance = np.column_stack([np.ones(n), random.normal(size=n), random.integers(0, 2, n)])
    interest = random.normal(size=(n, 1)) + 0.7 * nuisance[:, 1:2]
    values = random.normal(size=(n, m)) + nuisance @ random.normal(size=(3, m))
    values[:, 0] += 1.5 * interest[:, 0]
    return values, interest, nuisance


def test_t_slope_and_interval_are_those_of_ordinary_least_squares():
    values, interest, nuisance = case()
    found = permutation_test(values, interest, nuisance, np.zeros(5, int), groups=False, permutations=200)
    slope, t, df = ordinary_t(values, interest, nuisance)
    np.testing.assert_allclose(found.statistic, t, rtol=1e-9)
    np.testing.assert_allclose(found.slope, slope, rtol=1e-9)
    assert found.df == df
    width = slope / t * stats.t.ppf(0.975, df)
    np.testing.assert_allclose(found.slope_upper, slope + np.abs(width), rtol=1e-9)
    # Partial correlation: that of both residuals.
    hat = nuisance @ np.linalg.pinv(nuisance)
    left = [a - hat @ a for a in (interest[:, 0], values[:, 0])]
    assert found.size[0] == pytest.approx(np.corrcoef(*left)[0, 1], rel=1e-9)
    assert found.size_lower[0] < found.size[0] < found.size_upper[0]


def test_simple_designs_are_those_of_scipy():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(2, 15))
    one = np.ones((15, 1))
    found = permutation_test(y[:, None], x[:, None], one, [0], groups=False, permutations=100)
    expected = stats.pearsonr(x, y)
    assert found.size[0] == pytest.approx(expected.statistic, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert (found.size_lower[0], found.size_upper[0]) == pytest.approx(
        (interval.low, interval.high), rel=1e-9
    )
    group = np.repeat([0, 1, 2], 5)
    found = permutation_test(
        y[:, None], (group[:, None] == [1, 2]).astype(float), one, [0], groups=True, permutations=100
    )
    assert found.statistic[0] == pytest.approx(stats.f_oneway(*y.reshape(3, 5)).statistic, rel=1e-9)
    between = 5 * ((y.reshape(3, 5).mean(1) - y.mean()) ** 2).sum()
    assert found.size[0] == pytest.approx(between / ((y - y.mean()) ** 2).sum(), rel=1e-9)
    assert found.kind == "partial_eta2"


def test_cohens_d_and_its_interval():
    random = np.random.default_rng(2)
    a, b = random.normal(size=9), random.normal(size=6) + 1.0
    values = np.concatenate([a, b])[:, None]
    group = np.repeat([0.0, 1.0], [9, 6])[:, None]
    found = permutation_test(values, group, np.ones((15, 1)), [0], groups=True, permutations=100)
    pooled = np.sqrt((8 * a.var(ddof=1) + 5 * b.var(ddof=1)) / 13)
    assert found.size[0] == pytest.approx((b.mean() - a.mean()) / pooled, rel=1e-9)
    # Ends: noncentralities under which the observed t is at the 97.5 % and 2.5 % points; tolerance of the inversion.
    scale = np.sqrt(1 / 9 + 1 / 6)
    t = float(found.statistic[0])
    assert stats.nct.cdf(t, 13, found.size_lower[0] / scale) == pytest.approx(0.975, abs=1e-5)
    assert stats.nct.cdf(t, 13, found.size_upper[0] / scale) == pytest.approx(0.025, abs=1e-5)


def test_p_of_two_groups_is_that_of_all_assignments():
    random = np.random.default_rng(3)
    values = random.normal(size=(7, 4))
    values[:3] += 1.0
    group = np.array([0.0] * 3 + [1.0] * 4)[:, None]
    found = permutation_test(values, group, np.ones((7, 1)), [0, 0, 1, 1], groups=True, permutations=5000)
    assert found.exact
    assert found.n_permutations == 35
    assert found.smallest_p == pytest.approx(1 / 35)

    def statistics(chosen):
        inside = np.isin(np.arange(7), chosen)
        return np.abs(stats.ttest_ind(values[inside], values[~inside]).statistic)

    every = np.array([statistics(chosen) for chosen in combinations(range(7), 3)])
    observed = statistics((0, 1, 2))
    np.testing.assert_allclose(found.p, (every >= observed - 1e-9).mean(axis=0))
    for field in (slice(0, 2), slice(2, 4)):
        largest = every[:, field].max(axis=1, keepdims=True)
        np.testing.assert_allclose(found.p_fwe[field], (largest >= observed[field] - 1e-9).mean(axis=0))


def test_freedman_and_lane_written_out():
    """All 720 orders: residuals of the reduced model permuted, fitted values added, the whole model fitted."""
    values, interest, nuisance = case(n=6, m=2, seed=4)
    nuisance = nuisance[:, :2]
    hat = nuisance @ np.linalg.pinv(nuisance)
    residual = values - hat @ values
    observed = np.abs(ordinary_t(values, interest, nuisance)[1])
    every = np.array(
        [
            np.abs(ordinary_t(hat @ values + residual[list(order)], interest, nuisance)[1])
            for order in permutations(range(6))
        ]
    )
    found = permutation_test(values, interest, nuisance, [0, 1], groups=False, permutations=720)
    assert found.exact
    np.testing.assert_allclose(found.p, (every >= observed * (1 - 1e-9)).mean(axis=0))


def test_equal_groups_can_swap_names():
    values = np.arange(6.0)[:, None]
    group = np.repeat([0.0, 1.0], 3)[:, None]
    found = permutation_test(values, group, np.ones((6, 1)), [0], groups=True)
    assert found.smallest_p == pytest.approx(2 / 20)
    assert found.p[0] == pytest.approx(2 / 20)


def test_random_orders_begin_with_the_observed_one_and_repeat():
    rows, exact = rearrangements(np.arange(12.0)[:, None], 50, 3)
    assert not exact
    assert (rows[0] == np.arange(12)).all()
    assert (np.sort(rows, axis=1) == np.arange(12)).all()
    assert (rows == rearrangements(np.arange(12.0)[:, None], 50, 3)[0]).all()


def test_a_value_that_does_not_vary_has_no_p():
    values, interest, nuisance = case()
    values[:, 1] = 2.5
    found = permutation_test(values, interest, nuisance, np.zeros(5, int), groups=False, permutations=50)
    assert np.isnan(found.p[1])
    assert np.isfinite(np.delete(found.p_fwe, 1)).all()


def test_family_wise_error_and_level_with_a_correlated_nuisance():
    """200 data sets without an effect: 20 correlated regions, nuisance that drives all of them and the covariate."""
    random = np.random.default_rng(5)
    n, m, sets = 16, 20, 200
    wrong = single = 0
    for _ in range(sets):
        nuisance = np.column_stack([np.ones(n), random.normal(size=n)])
        interest = nuisance[:, 1:] + 0.5 * random.normal(size=(n, 1))  # r = 0.9
        noise = random.exponential(size=(n, m)) + random.exponential(size=(n, 1))
        values = noise + 3.0 * nuisance[:, 1:]
        found = permutation_test(values, interest, nuisance, np.zeros(m, int), groups=False, permutations=200)
        wrong += bool(found.p_fwe.min() <= 0.05)
        single += int(found.p[0] <= 0.05)
    # Binomial of 200 at 0.05: mean 10, standard deviation 3.1; three of them above and below.
    assert wrong <= 19
    assert 1 <= single <= 19


def test_the_detectable_effect_is_found_four_times_in_five():
    random = np.random.default_rng(6)
    n, sets = 24, 3000
    group = np.repeat([0.0, 1.0], n // 2)[:, None]
    values = random.normal(size=(n, sets))
    one = np.ones((n, 1))
    size = permutation_test(values[:, :1], group, one, [0], groups=True, permutations=10).detectable
    found = permutation_test(
        values + size * group, group, one, np.zeros(sets, int), groups=True, permutations=10
    )
    power = np.mean(2 * stats.t.sf(np.abs(found.statistic), found.df) < 0.05)
    # Standard error of a share of 0.8 in 3000: 0.0073; four of them.
    assert power == pytest.approx(0.8, abs=0.03)
