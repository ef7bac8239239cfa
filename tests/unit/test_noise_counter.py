"""Counter-based draws: known words, laws, independence, chunks, precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import brainloom.models  # noqa: F401  before brainstate, which resets the precision
from brainloom.noise import counter

SIZE = (8000, 2, 80)  # 1.28 million draws


def draw(kind, key=0, realisation=0, first=0, size=SIZE, dtype=np.float64):
    words = counter.key_words(jax.random.key(key), realisation)
    run = jax.jit(lambda start: counter.increments(kind, words, start, *size, dtype))
    return np.asarray(run(np.int32(first)))


@pytest.fixture(scope="module", params=counter.KINDS)
def sample(request):
    return request.param, draw(request.param)


# --- words ----------------------------------------------------------------------------------------------------

# Known answers published with the generator (Random123, threefry2x32, 13 rounds): counter, key, words.
KNOWN = [
    ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
]


def reference_threefry(key, first, second):
    """Salmon et al. 2011, section 4.1, on numpy arrays of 64 bits."""
    mask = 0xFFFFFFFF
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (first + keys[0]) & mask, (second + keys[1]) & mask
    for turn in range(13):
        shift = [13, 15, 26, 6, 17, 29, 16, 24][turn % 8]
        x = (x + y) & mask
        y = (((y << shift) | (y >> (32 - shift))) & mask) ^ x
        if turn % 4 == 3:
            k = turn // 4 + 1
            x = (x + keys[k % 3]) & mask
            y = (y + keys[(k + 1) % 3] + k) & mask
    return x, y


@pytest.mark.parametrize(("count", "key", "words"), KNOWN)
def test_words_are_the_published_ones(count, key, words):
    found = counter.threefry(*(jnp.array(x, jnp.uint32) for x in (key, *count)))
    assert tuple(int(word) for word in found) == words
    assert reference_threefry(key, *count) == words


def reference_words(key, realisation, first, size):
    """Words of both lanes of every pair, by the documented layout."""
    steps, channels, regions = size
    half = -(-channels * regions // 2)
    words = np.asarray(counter.key_words(jax.random.key(key), realisation)).astype(np.int64)
    step = (first + np.arange(steps, dtype=np.int64))[:, None] % 2**32
    return reference_threefry([int(w) for w in words], step, np.arange(half, dtype=np.int64)[None, :])


def in_layout(one, two, size):
    lanes = size[1] * size[2]
    return np.concatenate([one, two], axis=1)[:, :lanes].reshape(size)


def reference_normals(one, two):
    """Box and Muller, u of 23 bits, angle of 32 bits from the middle of its quadrant, in float64."""
    u = (2 * (one >> 9) + 1) / 2.0**24
    low = (two << 2) & 0xFFFFFFFF
    x = np.where(low >= 2**31, low - 2**32, low) * (np.pi / 4 / 2**31)
    radius = np.sqrt(-2 * np.log(u))
    signs = [np.where((two >> bit) & 1, -1.0, 1.0) for bit in (31, 30)]
    return signs[0] * radius * np.cos(np.pi / 4 + x), signs[1] * radius * np.sin(np.pi / 4 + x)


@pytest.mark.parametrize("size", [(4000, 2, 80), (1500, 3, 7), (5, 1, 1)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # six roundings of float32 at 6 standard deviations (2e-6 = 6 * 2^-24 * 6, and they partly cancel); float64
    # has no approximation in it
    [(np.float32, 1e-6), (np.float64, 1e-13)],
)
def test_gaussian_draws_are_those_of_the_words(size, dtype, tolerance):
    found = draw("gaussian", 3, 2, 11, size, dtype)
    assert found.dtype == dtype
    expected = in_layout(*reference_normals(*reference_words(3, 2, 11, size)), size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_extreme_words_give_finite_accurate_normals():
    """All corners of the words, the smallest and largest radius and the ends of every quadrant."""
    one = np.array([0, 1, 2**9, 2**10 - 1, 2**31, 2**32 - 1, 2**32 - 512, 2863311530], np.int64)
    two = np.array([k * 2**30 + d for k in range(4) for d in (0, 1, 2**29 - 1, 2**29, 2**30 - 1)], np.int64)
    one, two = (part.ravel() for part in np.meshgrid(one, two))
    expected = np.stack(reference_normals(one, two))
    given = jnp.array(one.astype(np.uint32)), jnp.array(two.astype(np.uint32))
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-14)):
        found = np.stack(counter._normal_pair(*given, np.dtype(dtype)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert 5.7 < np.abs(expected).max() < 5.8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weak_and_three_point_draws_are_those_of_the_words(dtype):
    size = (700, 3, 7)
    words = in_layout(*reference_words(5, 1, 0, size), size)
    ones = sum((words >> bit) & 1 for bit in range(32))
    # one rounding of a number below 6
    np.testing.assert_allclose(
        draw("weak", 5, 1, 0, size, dtype), (ones - 16) / np.sqrt(8), rtol=2 * np.finfo(dtype).eps
    )
    sign = (words >= 2**32 - round(2**32 / 6)).astype(int) - (words < round(2**32 / 6))
    np.testing.assert_allclose(
        draw("three_point", 5, 1, 0, size, dtype), sign * np.sqrt(3), rtol=2 * np.finfo(dtype).eps
    )


@pytest.mark.parametrize("kind", counter.KINDS)
def test_precisions_differ_by_rounding(kind):
    size = (2000, 2, 33)
    single, double = draw(kind, size=size, dtype=np.float32), draw(kind, size=size)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-6)


def test_default_precision_is_that_of_the_process():
    assert draw("gaussian", size=(3, 1, 2), dtype=None).dtype == np.float64


# --- laws -----------------------------------------------------------------------------------------------------

# central moments 2, 3, 4, 6 and 8; a sample moment m_k of n draws has the variance (m_2k - m_k^2) / n
BINOMIAL = {
    k: float(np.sum(stats.binom.pmf(np.arange(33), 32, 0.5) * ((np.arange(33) - 16) / 8**0.5) ** k))
    for k in range(9)
}
MOMENTS = {
    "gaussian": {0: 1, 1: 0, 2: 1, 3: 0, 4: 3, 6: 15, 8: 105},
    "weak": BINOMIAL,
    "three_point": {0: 1, 1: 0, 2: 1, 3: 0, 4: 3, 6: 9, 8: 27},
}


def test_moments(sample):
    kind, draws = sample
    expected = MOMENTS[kind]
    if kind == "weak":
        assert expected[4] - 3 == pytest.approx(-1 / 16)  # the documented excess
    for k in (1, 2, 3, 4):
        error = np.sqrt((expected[2 * k] - expected[k] ** 2) / draws.size)
        # four standard errors: 1 in 16,000 for a moment, with a fixed key
        assert abs(np.mean(draws**k) - expected[k]) < 4 * error, k


def test_gaussian_law_and_tails():
    draws = draw("gaussian", 1).ravel()
    # Kolmogorov: the distance exceeds 1.95 / sqrt(n) with probability 0.001
    assert stats.kstest(draws, "norm").statistic < 1.95 / np.sqrt(draws.size)
    assert np.abs(draws).max() > 4.5
    # counts beyond a limit are Poisson; five standard errors
    for limit in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(limit) * draws.size
        assert abs(np.sum(np.abs(draws) > limit) - expected) < 5 * np.sqrt(expected), limit


def test_weak_law_and_three_point_law():
    ones = np.round(draw("weak") * np.sqrt(8) + 16).astype(int).ravel()
    counts = np.bincount(ones, minlength=33)
    law = stats.binom.pmf(np.arange(33), 32, 0.5)
    inner = slice(4, 29)  # at least 10 expected in every cell
    observed = np.array([*counts[inner], counts.sum() - counts[inner].sum()])
    expected = np.array([*law[inner], 1 - law[inner].sum()]) * ones.size
    assert stats.chisquare(observed, expected).pvalue > 1e-3

    values, counts = np.unique(np.round(draw("three_point") / np.sqrt(3)), return_counts=True)
    assert list(values) == [-1, 0, 1]
    assert stats.chisquare(counts, np.array([1, 4, 1]) / 6 * counts.sum()).pvalue > 1e-3


def test_consecutive_steps_channels_regions_and_realisations_are_uncorrelated(sample):
    kind, draws = sample
    other = draw(kind, realisation=1)
    pairs = {
        "steps": (draws[1:], draws[:-1]),
        "far steps": (draws[1000:], draws[:-1000]),
        "channels": (draws[:, 0], draws[:, 1]),  # the two words of one counter
        "regions": (draws[..., 1:], draws[..., :-1]),
        "step and region": (draws[1:, :, 1:], draws[:-1, :, :-1]),
        "realisations": (draws, other),
        "keys": (draws, draw(kind, key=1)),
    }
    for name, (one, two) in pairs.items():
        for power in (1, 2):  # squares find what depends without being correlated
            a, b = (np.ravel(x**power) - np.mean(x**power) for x in (one, two))
            # the correlation of independent draws has the standard error 1/sqrt(n); five of them
            assert abs(np.mean(a * b) / (a.std() * b.std())) < 5 / np.sqrt(a.size), (name, power)


def test_covariance_between_all_lanes_is_the_identity():
    draws = draw("gaussian").reshape(SIZE[0], -1)
    error = np.abs(draws.T @ draws / SIZE[0] - np.eye(draws.shape[1]))
    # 25,600 entries with standard errors up to sqrt(2/n); 5.5 of them
    assert error.max() < 5.5 * np.sqrt(2 / SIZE[0])


def test_spectrum_along_time_is_flat():
    draws = draw("gaussian").reshape(SIZE[0], -1)
    power = np.mean(np.abs(np.fft.rfft(draws, axis=0)[1:-1]) ** 2, axis=1) / SIZE[0]
    # means of 160 exponential variables at 3,999 frequencies: standard error 1/sqrt(160), skewed; 5.5 of them
    assert np.abs(power - 1).max() < 5.5 / np.sqrt(draws.shape[1])


# --- a pure function of the indices --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", counter.KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_are_bits_of_the_whole(kind, dtype):
    size = (120, 2, 13)
    whole = draw(kind, size=size, dtype=dtype)
    words = counter.key_words(jax.random.key(0), 0)
    for chunk in (1, 7, 60):
        part = jax.jit(lambda s, n=chunk: counter.increments(kind, words, s, n, *size[1:], dtype))
        for first in range(0, 120 - chunk + 1, max(chunk, 13)):
            np.testing.assert_array_equal(part(np.int32(first)), whole[first : first + chunk])


@pytest.mark.parametrize("kind", counter.KINDS)
def test_inside_loops_and_batches_the_draws_are_the_same_bits(kind):
    key = jax.random.key(7)

    def run(realisation):
        words = counter.key_words(key, realisation)
        pages = jax.lax.map(
            lambda page: counter.increments(kind, words, page * 5, 5, 2, 9, jnp.float32), jnp.arange(4)
        )
        return pages.reshape(20, 2, 9)

    batch = np.asarray(jax.jit(jax.vmap(run))(jnp.arange(3)))
    for realisation in range(3):
        alone = draw(kind, 7, realisation, 0, (20, 2, 9), np.float32)
        np.testing.assert_array_equal(batch[realisation], alone)


def test_first_step_may_be_a_number_or_of_any_integer_type():
    words = counter.key_words(jax.random.key(0), 0)
    expected = draw("gaussian", first=2**31 - 3, size=(2, 1, 3))
    for first in (2**31 - 3, np.int64(2**31 - 3), jnp.uint32(2**31 - 3)):
        np.testing.assert_array_equal(counter.increments("gaussian", words, first, 2, 1, 3), expected)
    past = counter.increments("gaussian", words, jnp.uint32(2**31 - 2), 3, 1, 3)  # beyond int32
    np.testing.assert_array_equal(past[0], expected[1])


def test_keys_of_other_generators_and_raw_keys():
    raw = counter.key_words(jax.random.PRNGKey(3), 4)
    np.testing.assert_array_equal(raw, counter.key_words(jax.random.key(3), 4))
    long = [np.asarray(counter.key_words(jax.random.key(3, impl="rbg"), r)) for r in (0, 1)]
    assert long[0].shape == (2,) and long[0].dtype == np.uint32
    assert long[0].any() and not np.array_equal(*long)


def test_no_draw_depends_on_parameters_in_reverse_mode():
    """Draws are constants of derivatives: d/ds sum(s z)^2 = 2 s sum(z^2), through a checkpointed loop."""
    words = counter.key_words(jax.random.key(0), 0)

    def total(scale):
        @jax.checkpoint
        def page(carry, index):
            z = counter.increments("gaussian", words, index * 10, 10, 1, 4)
            return carry + jnp.sum((scale * z) ** 2), None

        return jax.lax.scan(page, 0.0, jnp.arange(3))[0]

    z = draw("gaussian", size=(30, 1, 4))
    assert float(jax.jit(jax.grad(total))(1.5)) == pytest.approx(3.0 * np.sum(z**2), rel=1e-12)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="gaussian, weak, three_point"):
        counter.increments("normal", counter.key_words(jax.random.key(0), 0), 0, 1, 1, 1)
