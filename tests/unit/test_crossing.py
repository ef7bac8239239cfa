"""Roots right of a line: counted as the eigenvalues of finely discretised histories count them."""

import brainloom.models  # noqa: F401  before brainstate, which resets the precision

# isort: split
import jax
import numpy as np
import pytest

from brainloom.linear.crossing import roots_right_of
from brainloom.linear.equilibrium import fixed_point
from brainloom.linear.linearised import linearise
from brainloom.linear.stability import SMALL, is_stable, rightmost_roots
from brainloom.models import get_model
from brainloom.network import Network

N = 6
# model, its parameters, coupling, k: damped and growing regions, two sources, ms and s
CASES = [
    ("JansenRitStep", {"C": 117.0, "p": 140.0}, "additive", 20.0),
    ("HopfStep", {"a": np.linspace(-0.3, 0.1, N), "time_unit": "ms"}, "diffusive", 0.3),
    ("WilsonCowanStep", {}, "additive", 1.5),
]


def linear_network(name, given, coupling, k, n=N):
    random = np.random.default_rng(n)
    weights = random.lognormal(0.0, 1.0, (n, n)) * (1.0 - np.eye(n))
    lengths = random.uniform(10.0, 150.0, (n, n)) * (1.0 - np.eye(n))
    node = get_model(name)(n, **given)
    network = Network(
        node, weights / weights.sum(axis=1).mean(), distance=lengths, speed=7.0, coupling=coupling, k=k
    )
    structure, values = network.structure("heun", 1e-3), network.parameter_values()
    state, _ = fixed_point(structure, values, node.initial_values(key=jax.random.key(0)))
    return linearise(structure, values, state), node.time_unit


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_counts_are_those_of_the_roots(case):
    linear, unit = linear_network(*case)
    # 40 nodes: the rightmost roots, of at most 200 rad/s with delays of 21 ms, are exact to rounding
    roots = np.sort(rightmost_roots(linear, unit, n_roots=30, n_nodes=40).real)[::-1]
    roots = roots * (1e-3 if unit == "ms" else 1.0)
    count = jax.jit(roots_right_of)
    seen = []
    for place in (0, 2, 5, 9):
        below = next(k for k in range(place, 29) if roots[k] - roots[k + 1] > 1e-3 * abs(roots[k]))
        found, decided = count(linear, 0.5 * (roots[below] + roots[below + 1]))
        assert bool(decided) and int(found) == below + 1
        seen.append(int(found))
    right, decided = count(linear, roots[0] + 0.1 * abs(roots[0]))
    assert bool(decided) and int(right) == 0 and len(set(seen)) >= 3


def test_a_line_through_a_pole_of_a_region_is_not_decided():
    linear, _ = linear_network("LinearStep", {"gamma": -0.1}, "additive", 0.01)
    assert not bool(jax.jit(roots_right_of)(linear, -0.1)[1])
    assert bool(jax.jit(roots_right_of)(linear, 0.0)[1])


def test_networks_of_any_size_and_margin_are_decided_alike():
    """A large network takes the counting, and where it does not decide, the eigenvalues."""
    linear, unit = linear_network("LinearStep", {"gamma": -0.1}, "additive", 0.08, n=20)
    assert (linear.a.shape[0] + 8) * 20 > SMALL
    decide = jax.jit(lambda linear, margin: is_stable(linear, unit, margin))
    rightmost = float(rightmost_roots(linear, unit, n_roots=1, n_nodes=16)[0].real)
    assert rightmost < 0.0
    for shift in (-2.0, -1e-3, 1e-3, 2.0):  # 1/s, of a rate of some 1/s: much finer than a search needs
        assert bool(decide(linear, -(rightmost + shift))) == (shift > 0.0)
    assert not bool(decide(linear, 100.0))  # through the poles of the regions, 100/s
