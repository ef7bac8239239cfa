"""Cohort statistics against brute force, analysis of variance, scipy and closed forms."""

import numpy as np
import pytest
from scipy import linalg, stats

from brainloom.analysis import mixture
from brainloom.analysis.fc import average_correlations
from brainloom.analysis.group_stats import fingerprint_matrix, icc31, identification, paired_comparison
from brainloom.analysis.mixture import (
    choose_weight,
    leave_one_out_mean,
    matrix_log,
    mix,
    rescale_weight,
)


def correlation_matrices(n, regions=8, frames=60, seed=40):
    random = np.random.default_rng(seed)
    return [np.corrcoef(random.normal(size=(frames, regions)).T) for _ in range(n)]


def test_fingerprint_and_identification_by_brute_force():
    predictions, targets = correlation_matrices(6, seed=41), correlation_matrices(6, seed=42)
    targets = [0.8 * t + 0.2 * p for t, p in zip(targets, predictions, strict=True)]
    matrix = fingerprint_matrix(predictions, targets)
    rows, columns = np.triu_indices(8, 1)
    for s in range(6):
        for t in range(6):
            r = np.corrcoef(predictions[s][rows, columns], targets[t][rows, columns])[0, 1]
            assert matrix[s, t] == pytest.approx(r, abs=1e-13)
    own, reverse = identification(matrix)
    for s in range(6):
        assert own[s] == all(matrix[s, s] > matrix[t, s] for t in range(6) if t != s)
        assert reverse[s] == all(matrix[s, s] > matrix[s, t] for t in range(6) if t != s)
    assert 0 < own.sum() < 6 and (own != reverse).any()


def test_direction_of_identification():
    """Subject 1's prediction fits everybody best: its column is right, the other's is not."""
    own, reverse = identification(np.array([[0.5, 0.4], [0.6, 0.9]]))
    np.testing.assert_array_equal(own, [False, True])
    np.testing.assert_array_equal(reverse, [True, True])


def test_icc_of_the_published_example():
    """Shrout & Fleiss (1979), six targets and four judges: ICC(3,1) = .71, and from the analysis of variance."""
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
    )
    assert icc31(ratings) == pytest.approx(0.71, abs=0.005)
    between, error = 11.24, 1.02
    assert icc31(ratings) == pytest.approx((between - error) / (between + 3 * error), abs=2e-3)


def test_icc_works_on_fields_and_ignores_a_shift_between_sessions():
    random = np.random.default_rng(43)
    truth = random.normal(size=(4000, 1, 2)) * np.array([1.0, 3.0])
    values = truth + random.normal(size=(4000, 2, 2)) + np.array([[0.0], [5.0]])
    np.testing.assert_allclose(icc31(values), [0.5, 0.9], atol=0.03)
    assert np.isnan(icc31(np.ones((3, 2))))
    with pytest.raises(ValueError, match="at least 2 subjects and 2 sessions"):
        icc31(np.ones((3, 1)))


def test_paired_comparison():
    random = np.random.default_rng(44)
    a = random.normal(0.5, 0.2, 40)
    b = random.normal(0.4, 0.2, 40)
    found = paired_comparison(a, b)
    assert found.mean == pytest.approx((a - b).mean(), abs=1e-15)
    assert found.p_value == pytest.approx(stats.wilcoxon(a, b).pvalue, rel=1e-12)
    assert (found.n_better, found.n) == ((a > b).sum(), 40)
    half = 1.96 * (a - b).std(ddof=1) / np.sqrt(40)
    assert found.lower == pytest.approx(found.mean - half, abs=0.15 * half)
    assert found.upper == pytest.approx(found.mean + half, abs=0.15 * half)
    assert found == paired_comparison(a, b)


def test_paired_comparison_of_seven_out_of_seven():
    found = paired_comparison(np.arange(7) + 1.5, np.arange(7) * 0.9)
    assert found.p_value == pytest.approx(2 / 2**7)
    assert paired_comparison(np.ones(3), np.ones(3)).p_value == 1.0
    with pytest.raises(ValueError, match="at least 2 subjects"):
        paired_comparison(np.ones(1), np.ones(1))


def test_mixture_is_the_log_euclidean_path():
    own, group = correlation_matrices(2, frames=200, seed=45)
    reference = linalg.expm(0.3 * linalg.logm(own) + 0.7 * linalg.logm(group))
    scale = np.sqrt(np.diag(reference))
    mixed = mix(matrix_log(own), matrix_log(group), 0.3)
    np.testing.assert_allclose(mixed, reference / np.outer(scale, scale), atol=1e-10)
    np.testing.assert_allclose(mix(matrix_log(own), matrix_log(group), 1.0), own, atol=1e-12)


def test_mixture_of_a_singular_matrix_is_finite():
    own = np.corrcoef(np.random.default_rng(46).normal(size=(8, 5)))
    group = correlation_matrices(1)[0]
    mixed = mix(matrix_log(own), matrix_log(group), 0.5)
    assert np.isfinite(mixed).all()
    assert np.linalg.eigvalsh(mixed).min() > 0


def test_leave_one_out_mean_leaves_out_the_subject():
    matrices = correlation_matrices(4)
    means = leave_one_out_mean(matrices)
    z = np.mean([np.arctanh(matrices[k][0, 3]) for k in (0, 1, 3)])
    assert means[2][0, 3] == pytest.approx(np.tanh(z), abs=1e-14)
    with pytest.raises(ValueError, match="at least two subjects"):
        leave_one_out_mean(matrices[:1])


def subjects(frames, seed, n=5, regions=12):
    """Subjects that differ from a common covariance, each measured three times: early, late, others' mean."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(regions, regions))
    early, late, truth = [], [], []
    for _ in range(n):
        factor = common + 0.5 * random.normal(size=(regions, regions))
        early.append(np.corrcoef((random.normal(size=(frames, regions)) @ factor).T))
        late.append(np.corrcoef((random.normal(size=(4000, regions)) @ factor).T))
        truth.append(np.corrcoef((random.normal(size=(4000, regions)) @ factor).T))
    return early, leave_one_out_mean(truth), late


def test_chosen_weight_grows_with_the_amount_of_data():
    short, scores = choose_weight(*subjects(20, 47))
    long, _ = choose_weight(*subjects(2000, 47))
    assert 0 < short < long <= 1
    assert scores.shape == (21,) and scores.max() > max(scores[0], scores[-1])


def test_rescaled_weight_keeps_the_odds_per_degree_of_freedom():
    weight = rescale_weight(0.4, 25.0, 50.0)
    assert weight / (1 - weight) == pytest.approx(2 * 0.4 / 0.6)
    assert (rescale_weight(0.0, 10, 20), rescale_weight(1.0, 10, 20)) == (0.0, 1.0)


def test_leave_one_out_means_of_many_are_those_of_each():
    matrices = correlation_matrices(30)
    for own, mean in enumerate(leave_one_out_mean(matrices)):
        others = [matrix for k, matrix in enumerate(matrices) if k != own]
        np.testing.assert_allclose(mean, average_correlations(others), atol=1e-13)


def test_the_weight_of_a_large_cohort_is_chosen_on_some_of_it(monkeypatch):
    cohort = subjects(30, 47, n=9)
    monkeypatch.setattr(mixture, "MAX_CHOOSERS", 3)
    some = choose_weight(*cohort)
    few = choose_weight(*([part[k] for k in (0, 4, 8)] for part in cohort))
    assert some[0] == few[0]
    np.testing.assert_array_equal(some[1], few[1])
