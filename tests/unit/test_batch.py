"""Many fits in one program: the same numbers as one by one, failures that stay alone, slots, devices, memory."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_fits import linear_setup

import brainloom.models  # noqa: F401  (before jax: precision)
from brainloom.cohort import batch
from brainloom.cohort.batch import MemoryBudgetError, Settings, fit_batch
from brainloom.fit.predict import objective
from brainloom.fit.problem import make_problem

N = 6
SETUP = linear_setup(N)
TIGHT = Settings(max_steps=400, patience=10, tolerance=1e-11)


def problem(seed, repetition_time=0.72):
    """A subject of its own connectome and recording."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(size=(N, N))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    x = rng.normal(size=(60 + 10 * seed, N)) + rng.normal(size=(60 + 10 * seed, 1))
    config = {
        "model": {"parameters": {"gamma": -0.1}},
        "fit": {"lambda": 0.01, "margin": 0.01},
        "signal": {"band": (0.01, 0.1), "filter_order": 2},
    }
    fc = np.corrcoef(x.T)
    return make_problem(
        SETUP, config, weights=weights / weights.sum(1).mean(), homotope=np.arange(N) ^ 1, fc=fc, lag1=fc,
        frequency_hz=np.full(N, 0.05), repetition_time=repetition_time,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cohort():
    problems = [problem(k, 0.72 if k % 2 else 2.0) for k in range(5)]
    starts = 0.1 * np.random.default_rng(9).normal(size=(5, SETUP.space.size))
    return problems, starts


@pytest.fixture(scope="module")
def alone(cohort):
    problems, starts = cohort
    return [
        fit_batch(objective, SETUP, [p], s[None], TIGHT)[0] for p, s in zip(problems, starts, strict=True)
    ]


def test_in_turns_the_numbers_are_those_of_each_fit_alone(cohort, alone):
    together = fit_batch(objective, SETUP, *cohort, TIGHT, slots=3)
    assert [one.index for one in together] == list(range(5))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        np.testing.assert_array_equal(one.history, other.history)
        assert (one.loss, one.n_evaluations) == (other.loss, other.n_evaluations)
        assert one.converged


def test_side_by_side_a_value_and_gradient_agree_to_ten_digits(cohort):
    problems, starts = cohort
    of = lambda p, s: jax.value_and_grad(lambda x: objective(SETUP, p, x))(s)  # noqa: E731
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *problems)
    values, grads = jax.jit(jax.vmap(of))(stacked, jnp.asarray(starts))
    single = jax.jit(of)
    for k, (p, s) in enumerate(zip(problems, starts, strict=True)):
        value, grad = single(p, jnp.asarray(s))
        np.testing.assert_allclose(values[k], value, rtol=1e-10)
        np.testing.assert_allclose(grads[k], grad, rtol=1e-10, atol=1e-12 * np.abs(grad).max())


def test_side_by_side_twenty_steps_agree_to_1e_6(cohort):
    twenty = Settings(max_steps=20, patience=100, tolerance=0.0)
    one_by_one = fit_batch(objective, SETUP, *cohort, twenty, side_by_side=False)
    together = fit_batch(objective, SETUP, *cohort, twenty, slots=5, side_by_side=True)
    for one, other in zip(together, one_by_one, strict=True):
        assert one.n_steps == other.n_steps == 20
        np.testing.assert_allclose(one.theta, other.theta, atol=1e-6)


def test_side_by_side_the_optimum_is_the_same(cohort, alone):
    together = fit_batch(objective, SETUP, *cohort, TIGHT, slots=2, side_by_side=True)
    for one, other in zip(together, alone, strict=True):
        # rounding sends the searches along other ways; both end within the tolerance of the optimum
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        np.testing.assert_allclose(one.theta, other.theta, atol=1e-3)


def test_a_fit_that_fails_concerns_no_other(cohort, alone):
    problems, starts = cohort
    broken = [p | {"fc": p["fc"] * np.nan} if k == 2 else p for k, p in enumerate(problems)]
    for side_by_side in (False, True):
        found = fit_batch(objective, SETUP, broken, starts, TIGHT, slots=5, side_by_side=side_by_side)
        assert np.isnan(found[2].loss) and not found[2].converged
        np.testing.assert_array_equal(found[2].theta, starts[2])
        for k in (0, 1, 3, 4):
            assert found[k].loss == pytest.approx(alone[k].loss, rel=1e-5)


def test_outcomes_come_as_they_are_ready(cohort):
    problems, starts = cohort
    quick = [p | {"fc": p["fc"] * np.nan} if k == 4 else p for k, p in enumerate(problems)]
    order: list[int] = []
    fit_batch(objective, SETUP, quick, starts, TIGHT, slots=5, tell=lambda one: order.append(one.index))
    assert sorted(order) == list(range(5))
    assert order[0] == 4


def test_nothing_compiles_twice(cohort):
    problems, starts = cohort
    fit_batch(objective, SETUP, problems[:4], starts[:4], TIGHT, slots=2)
    before = batch._advance._cache_size(), batch._insert._cache_size()
    fit_batch(objective, SETUP, problems, starts, TIGHT, slots=2)
    assert (batch._advance._cache_size(), batch._insert._cache_size()) == before


def test_memory_halves_the_slots_and_at_last_refuses(cohort, monkeypatch):
    tried = []
    ask = batch._Bench.bytes
    monkeypatch.setattr(
        batch._Bench, "bytes", lambda self: tried.append(len(self._searches.done)) or ask(self)
    )
    one = fit_batch(objective, SETUP, *cohort, TIGHT, slots=1, memory=1e12)
    assert tried == [1]
    needed = ask(
        batch._Bench(objective, SETUP, TIGHT, cohort[0][0], cohort[1][0], 1, True, jax.local_devices()[:1])
    )
    tried.clear()
    found = fit_batch(objective, SETUP, *cohort, TIGHT, slots=4, side_by_side=True, memory=1.5 * needed)
    assert tried[0] == 4 and tried[-1] < 4
    assert [x.loss for x in found] == pytest.approx([x.loss for x in one], rel=1e-5)
    with pytest.raises(MemoryBudgetError, match=r"one fit takes .* MB and memory is 0 MB; allow more"):
        fit_batch(objective, SETUP, *cohort, TIGHT, memory=100.0)


def test_other_shapes_are_named(cohort):
    problems, starts = cohort
    with pytest.raises(
        ValueError, match=r"fc of problem 1 has shape \(5, 5\), that of problem 0 \(6, 6\); pad"
    ):
        fit_batch(objective, SETUP, [problems[0], problems[1] | {"fc": np.eye(5)}], starts[:2])
    with pytest.raises(ValueError, match="one row for each problem"):
        fit_batch(objective, SETUP, problems, starts[:3])
    assert fit_batch(objective, SETUP, [], np.zeros((0, 3))) == []


TWO_DEVICES = """
import sys
sys.path.insert(0, sys.argv[1])
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from test_batch import SETUP, TIGHT, fit_batch, objective, problem
problems = [problem(k) for k in range(5)]
starts = 0.1 * np.random.default_rng(9).normal(size=(5, SETUP.space.size))
devices = jax.local_devices()
assert len(devices) == 2
one = fit_batch(objective, SETUP, problems, starts, TIGHT)
for side_by_side in (False, True):
    two = fit_batch(objective, SETUP, problems, starts, TIGHT, slots=3, devices=devices, side_by_side=side_by_side)
    assert len(two) == 5
    np.testing.assert_allclose([x.loss for x in two], [x.loss for x in one], rtol=1e-5)
print("agree")
"""


def test_two_devices_share_the_work():
    here = os.path.dirname(__file__)
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, here], env=env, capture_output=True, text=True, timeout=300
    )
    assert found.stdout.strip().endswith("agree"), found.stderr[-2000:]
