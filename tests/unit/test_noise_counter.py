"""Counter-based draws: known words, laws, independence, chunks, precision."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

import brainloom.models  # noqa: F401  before brainstate, which resets the precision
from brainloom.noise import counter

# Fourth moments (excess kurtosis 0, -1/16, 0) and eighth central moments decide the errors of the moments.
FOURTH = {"gaussian": 3.0, "weak": 3.0 - 1 / 16, "three_point": 3.0}
SIZE = (8000, 2, 80)


def draw(kind, key=0, realisation=0, first=0, size=SIZE, dtype=np.float32):
    words = counter.key_words(jax.random.key(key), realisation)
    run = jax.jit(lambda start: counter.increments(kind, words, start, *size, dtype))
    return np.asarray(run(np.int32(first)))


@pytest.fixture(scope="module", params=counter.KINDS)
def sample(request):
    return request.param, draw(request.param).astype(np.float64)


def reference_threefry(key, counters):
    """Salmon et al. 2011, table 2 and section 4.1, written with Python integers."""
    mask = 0xFFFFFFFF
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counters[0] + keys[0]) & mask, (counters[1] + keys[1]) & mask
    for turn in range(13):
        shift = [13, 15, 26, 6, 17, 29, 16, 24][turn % 8]
        x = (x + y) & mask
        y = (((y << shift) | (y >> (32 - shift))) & mask) ^ x
        if turn % 4 == 3:
            k = turn // 4 + 1
            x = (x + keys[k % 3]) & mask
            y = (y + keys[(k + 1) % 3] + k) & mask
    return x, y


# Known answers published with the generator (Random123, threefry2x32, 13 rounds): counter, key, words.
KNOWN = [
    ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
]


@pytest.mark.parametrize(("counters", "key", "words"), KNOWN)
def test_words_are_the_published_ones(counters, key, words):
    found = counter.threefry(
        np.array(key, np.uint32), np.array(counters[:1], np.uint32), np.array(counters[1:], np.uint32)
    )
    assert tuple(int(word[0]) for word in found) == words == reference_threefry(key, counters)
