"""FCD against its definition written as loops, KS distance against scipy."""

import numpy as np
import pytest
from scipy import stats

from brainloom.analysis.fc import functional_connectivity, upper
from brainloom.analysis.fcd import fcd, fcd_ks, fcd_segments, fcd_values, ks_distance, window_frames


@pytest.fixture
def x():
    return np.random.default_rng(4).normal(size=(100, 6)).cumsum(axis=0)


def test_fcd_is_the_correlation_of_windowed_fc(x):
    matrix = fcd(x, 20, 7)
    starts = list(range(0, 81, 7))
    assert matrix.shape == (len(starts), len(starts))
    rows, columns = np.triu_indices(6, 1)
    for i, s in enumerate(starts):
        for j, t in enumerate(starts):
            a = np.corrcoef(x[s : s + 20].T)[rows, columns]
            b = np.corrcoef(x[t : t + 20].T)[rows, columns]
            assert matrix[i, j] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)


@pytest.mark.parametrize(("window", "step"), [(20, 7), (21, 7), (20, 20), (5, 20)])
def test_only_pairs_without_a_common_frame_count(x, window, step):
    matrix = fcd(x, window, step)
    n = len(matrix)
    frames = [set(range(k * step, k * step + window)) for k in range(n)]
    expected = [matrix[i, j] for i in range(n) for j in range(i + 1, n) if not frames[i] & frames[j]]
    np.testing.assert_array_equal(fcd_values(matrix, window, step), expected)


def test_windows_of_different_segments_are_not_compared(x):
    matrix = fcd_segments([x[:60], x[60:]], 20, 10)
    np.testing.assert_array_equal(matrix[:5, :5], fcd(x[:60], 20, 10))
    np.testing.assert_array_equal(matrix[5:, 5:], fcd(x[60:], 20, 10))
    assert np.isnan(matrix[:5, 5:]).all() and np.isnan(matrix[5:, :5]).all()
    expected = np.concatenate([fcd_values(fcd(part, 20, 10), 20, 10) for part in (x[:60], x[60:])])
    np.testing.assert_array_equal(np.sort(fcd_values(matrix, 20, 10)), np.sort(expected))


@pytest.mark.parametrize("sizes", [(50, 50), (7, 301), (1, 3)])
def test_ks_is_scipys(sizes):
    random = np.random.default_rng(5)
    a, b = np.round(random.normal(size=sizes[0]), 1), np.round(random.normal(0.3, size=sizes[1]), 1)
    assert ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-15)


def test_realisations_are_pooled(x):
    matrices = np.stack([fcd(x + k * np.random.default_rng(k).normal(size=x.shape), 20, 7) for k in range(3)])
    pooled = np.concatenate([fcd_values(m, 20, 7) for m in matrices])
    reference = fcd_values(matrices[0], 20, 7)
    assert fcd_ks(matrices, matrices[0], 20, 7) == pytest.approx(
        stats.ks_2samp(pooled, reference).statistic, abs=1e-15
    )


def test_segment_shorter_than_a_window_has_no_fcd(x):
    assert fcd(x[:10], 20, 5).shape == (0, 0)
    assert np.isnan(fcd_ks(fcd(x[:10], 20, 5), fcd(x, 20, 5), 20, 5))


def test_windows_in_seconds():
    assert (window_frames(60, 0.72), window_frames(3, 0.72), window_frames(0.1, 0.72)) == (83, 4, 1)


@pytest.mark.parametrize(("window", "step"), [(20, 7), (21, 7), (5, 20)])
def test_sums_that_follow_the_window_are_those_of_each_window(x, window, step):
    x = x.copy()
    x[:, 2] *= 1e3  # units and means do not matter
    x[:, 3] += 1e6
    x[30:60, 4] = x[30, 4]  # constant in some windows, which then correlate 0 with it
    rows = [upper(functional_connectivity(x[k : k + window])) for k in range(0, len(x) - window + 1, step)]
    np.testing.assert_allclose(fcd(x, window, step), functional_connectivity(np.stack(rows).T), atol=1e-9)
