"""Random keys by name."""

import itertools

import jax
import numpy as np

from brainloom.core.keys import named_key


def data(*args):
    return tuple(jax.random.key_data(named_key(*args)).tolist())


def test_keys_are_the_same_in_every_process():
    # fixed numbers: a key that depended on the process (as `hash` of a text does) would miss them
    assert data(0) == (0, 0)
    assert data(0, "simulate", "01") == (782488760, 3409899542)


def test_other_seeds_names_and_orders_give_other_keys():
    requests = [
        (0,), (1,), (0, "fit"), (0, "simulate"), (1, "fit"), (0, "fit", "01"), (0, "fit", "02"), (0, "01", "fit"),
        (0, "fit01"), (0, "f", "it"), (0, "fit", ""),
    ]  # fmt: skip
    assert len({data(*request) for request in requests}) == len(requests)


def test_draws_of_different_names_are_independent():
    draws = [jax.random.normal(named_key(0, "fit", f"{k:02d}"), (4000,)) for k in range(4)]
    for a, b in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(4000)
