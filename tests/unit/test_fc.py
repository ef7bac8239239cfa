"""Correlations against numpy, lag-1 correlation against the closed form of an autoregressive process."""

import numpy as np
import pytest

from brainloom.analysis.fc import (
    average_correlations,
    fc_correlation,
    fc_rmse,
    fisher_z,
    functional_connectivity,
    lagged_correlation,
    pearson,
    upper,
)


@pytest.fixture
def x():
    random = np.random.default_rng(2)
    return random.normal(size=(200, 5)) @ random.normal(size=(5, 5)) + 40.0


def test_fc_is_pearson(x):
    np.testing.assert_allclose(functional_connectivity(x), np.corrcoef(x.T), atol=1e-13)
    assert (np.diag(functional_connectivity(x)) == 1.0).all()


def test_lagged_correlation_is_pearson_of_shifted_series(x):
    lagged = lagged_correlation(x, 3)
    for i in range(5):
        for j in range(5):
            assert lagged[i, j] == pytest.approx(np.corrcoef(x[3:, i], x[:-3, j])[0, 1], abs=1e-13)


def test_first_index_of_lagged_correlation_is_the_later_region():
    """x_1(t + 1) = 0.8 x_0(t) + noise: corr(x_1(t+1), x_0(t)) = 0.8 and nothing the other way, to 0.02 at 20,000."""
    random = np.random.default_rng(3)
    cause = random.normal(size=20001)
    follow = np.concatenate([[0.0], 0.8 * cause[:-1] + 0.6 * random.normal(size=20000)])
    lagged = lagged_correlation(np.stack([cause, follow], axis=1))
    assert lagged[1, 0] == pytest.approx(0.8, abs=0.02)
    assert lagged[0, 1] == pytest.approx(0.0, abs=0.02)


def test_constant_region_correlates_zero(x):
    x[:, 1] = 3.0
    fc = functional_connectivity(x)
    assert np.isfinite(fc).all()
    np.testing.assert_array_equal(fc[1], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(lagged_correlation(x)[1], 0)


def test_upper_goes_row_by_row():
    matrix = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(upper(matrix), [1, 2, 5])
    np.testing.assert_array_equal(upper(np.stack([matrix, -matrix])), [[1, 2, 5], [-1, -2, -5]])


def test_comparison_of_matrices(x):
    a, b = np.corrcoef(x.T), np.corrcoef(x[:50].T)
    rows, columns = np.triu_indices(5, 1)
    assert fc_correlation(a, b) == pytest.approx(
        np.corrcoef(a[rows, columns], b[rows, columns])[0, 1], abs=1e-13
    )
    squares = [(a[i, j] - b[i, j]) ** 2 for i in range(5) for j in range(i + 1, 5)]
    assert fc_rmse(a, b) == pytest.approx(np.sqrt(sum(squares) / 10), abs=1e-15)
    assert np.isnan(pearson(np.ones(4), np.arange(4.0)))


def test_average_is_in_fisher_z():
    a, b = np.array([[1, 0.9], [0.9, 1]]), np.array([[1, -0.3], [-0.3, 1]])
    z = (3 * 0.5 * np.log(1.9 / 0.1) + 0.5 * np.log(0.7 / 1.3)) / 4
    mean = average_correlations([a, b], [3, 1])
    assert mean[0, 1] == pytest.approx((np.exp(2 * z) - 1) / (np.exp(2 * z) + 1), abs=1e-14)
    assert mean[0, 0] == 1.0
    np.testing.assert_array_equal(average_correlations([a]), a)


def test_fisher_z_of_identical_series_is_finite():
    assert fisher_z(1.0) == pytest.approx(np.arctanh(0.999))
    assert fisher_z(0.5) == pytest.approx(0.5 * np.log(3), abs=1e-15)
