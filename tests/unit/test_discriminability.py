"""Discriminability against a count by brute force, closed cases, and its permutation test."""

from itertools import permutations

import numpy as np
import pytest

from brainloom.analysis.discriminability import closer_shares, discriminability


def by_counting(first, second):
    """The definition: all pairs of measurements of a subject against all measurements of others."""
    parts = np.stack([first, second], axis=1)
    n, counts = len(parts), []
    for i in range(n):
        for t in (0, 1):
            own = np.linalg.norm(parts[i, t] - parts[i, 1 - t])
            for j in range(n):
                if j != i:
                    for s in (0, 1):
                        other = np.linalg.norm(parts[i, t] - parts[j, s])
                        counts.append(1.0 if own < other else 0.5 if own == other else 0.0)
    return np.mean(counts)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_it_is_the_share_that_counting_gives(noise):
    rng = np.random.default_rng(int(10 * noise))
    own = rng.normal(size=(11, 5))
    first, second = (own + noise * rng.normal(size=own.shape) for _ in range(2))
    assert discriminability(first, second, draws=10).value == pytest.approx(
        by_counting(first, second), abs=1e-12
    )


def test_ties_count_half():
    # whole numbers on a line: many distances are equal
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 4, (2, 9, 1)).astype(float)
    assert discriminability(first, second, draws=10).value == pytest.approx(
        by_counting(first, second), abs=1e-12
    )
    assert discriminability(np.ones((5, 3)), np.ones((5, 3))).value == 0.5


def test_perfect_and_none():
    rng = np.random.default_rng(3)
    own = rng.normal(size=(40, 30))
    found = discriminability(own, own + 1e-3 * rng.normal(size=own.shape), draws=999)
    assert found.value == 1.0 and found.p_value == pytest.approx(1 / 1000) and found.n == 40
    # Unrelated measurements: mean .5 over cohorts; its standard error over these 200 is below .005.
    values, p = zip(
        *[
            (d.value, d.p_value)
            for d in (discriminability(*rng.normal(size=(2, 8, 6)), draws=200) for _ in range(200))
        ],
        strict=True,
    )
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.05)  # binomial, three standard errors


def test_the_p_value_of_few_subjects_is_exact():
    rng = np.random.default_rng(4)
    first = rng.normal(size=(5, 3))
    second = first + 0.8 * rng.normal(size=first.shape)
    found = discriminability(first, second)
    every = [by_counting(first, second[list(order)]) for order in permutations(range(5))]
    assert found.p_value == pytest.approx(np.mean(np.array(every) >= by_counting(first, second) - 1e-12))
    np.testing.assert_allclose(np.trace(closer_shares(first, second)) / 5, found.value, rtol=1e-12)


def test_one_subject_is_refused():
    with pytest.raises(ValueError, match="at least 2 subjects"):
        discriminability(np.ones((1, 4)), np.ones((1, 4)))
