"""What pooling learns of a cohort besides its mean: directions in which subjects differ, and brain maps that fields follow."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_fits import linear_setup

from brainloom.analysis.fc import average_correlations, fc_correlation
from brainloom.cohort.batch import Settings
from brainloom.cohort.pool import Member, pool_cohort
from brainloom.cohort.pool_maps import map_problems
from brainloom.cohort.pooled_model import PooledSetup, pooled_fc, pooled_objective
from brainloom.cohort.pooled_prior import (
    direction_penalty,
    jackknife,
    learn_directions,
    map_coefficients,
    map_penalty,
)
from brainloom.core.config import validate_config
from brainloom.core.errors import DataError
from brainloom.fit.problem import make_problem
from brainloom.io.brain_maps import read_brain_maps

N = 12
SETUP = linear_setup(N)
POOLED = PooledSetup(SETUP, 1)
model_fc = jax.jit(pooled_fc, static_argnums=0)
CONFIG = {
    "model": {"parameters": {"gamma": -0.1}},
    "fit": {"lambda": 0.001, "margin": 0.01},
    "signal": {"band": [0.01, 0.1], "filter_order": 2},
}


def recorded(number, theta, pattern, rng, dof):
    """A subject with Wishart samples around the FC of its true coordinates, and that FC."""
    pattern = pattern + 0.3 * rng.normal(size=(N, N))
    weights = np.exp(0.6 * (pattern + pattern.T)) * (1 - np.eye(N))
    problem = make_problem(
        SETUP, CONFIG, weights=weights / weights.sum(1).mean(), homotope=np.arange(N) ^ 1, fc=np.eye(N),
        lag1=np.eye(N), frequency_hz=np.full(N, 0.05), repetition_time=0.72,
    )  # fmt: skip
    true = np.asarray(model_fc(POOLED, problem, jnp.asarray(theta)))
    root = np.linalg.cholesky(true)
    early, validation, test = (
        np.corrcoef((rng.normal(size=(n, N)) @ root.T).T) for n in (2 * dof // 3, dof // 3, dof)
    )
    train = average_correlations([early, validation], [2, 1])
    known = (2 * dof / 3, float(dof))
    return Member(f"{number:02d}", problem, train, test, early, validation, (300.0, 300.0), known), true


def pooled(people, **more):
    settings = {"ranks": [1], "strengths": [0.01], "folds": 8, "seed": 0, "search": Settings(max_steps=150)}
    return pool_cohort(SETUP, people, **(settings | {"learn_shrinkage": False} | more))


def missing(predicted, true):
    return 1.0 - np.mean([fc_correlation(np.asarray(a), b) for a, b in zip(predicted, true, strict=True)])


@pytest.fixture(scope="module")
def related():
    """Sixteen subjects that differ along two directions, and little else."""
    common = np.random.default_rng([2, 0])
    centre, directions = 0.5 * common.normal(size=POOLED.size), common.normal(size=(2, POOLED.size))
    pattern = common.normal(size=(N, N))
    found = []
    for k in range(16):
        own = np.random.default_rng([2, 1, k])
        theta = centre + 0.3 * own.normal(size=2) @ directions + 0.1 * own.normal(size=POOLED.size)
        found.append(recorded(k, theta, pattern, own, 24))
    return [list(part) for part in zip(*found, strict=True)]


@pytest.fixture(scope="module")
def with_directions(related):
    return pooled(related[0], directions=[2, 4])


def test_directions_of_the_cohort_are_learned_and_help(related, with_directions):
    people, true = related
    chosen = with_directions.candidates[with_directions.chosen]
    assert chosen.directions == 2
    # four others a direction: fourteen are too few for four of them
    assert {one.directions for one in with_directions.candidates} == {0, 2}
    # measured: a third less is missing
    assert missing(with_directions.fc, true) < 0.8 * missing(pooled(people).fc, true)


def test_no_test_data_reach_the_own_prior_through_directions(related, with_directions):
    people = related[0]
    other = np.corrcoef(np.random.default_rng(1).normal(size=(N, 40)))
    changed = pooled([replace(m, test=other) if k == 3 else m for k, m in enumerate(people)], directions=[2])
    np.testing.assert_array_equal(changed.prior[3], with_directions.prior[3])
    np.testing.assert_array_equal(changed.fc[3], with_directions.fc[3])
    elsewhere = next(k for k in range(16) if with_directions.fold[k] != with_directions.fold[3])
    assert np.abs(changed.prior[elsewhere] - with_directions.prior[elsewhere]).max() > 1e-4


def test_principal_directions():
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(60, 2)))[0].T
    theta = 1.0 + rng.normal(size=(400, 2)) * [6.0, 3.0] @ rows + 0.5 * rng.normal(size=(400, 60))
    found = learn_directions(theta, 2)
    # sampling errors of 400 subjects: 1 / sqrt(800) of a variance, 4 standard errors
    assert np.abs(np.diag(np.abs(found.rows @ rows.T)) - 1).max() < 0.02
    np.testing.assert_allclose(found.ratio, [0.25 / 36, 0.25 / 9], rtol=0.15)
    np.testing.assert_allclose(found.centre, theta.mean(axis=0))
    with pytest.raises(DataError, match="4 directions of a cohort cannot be learned from 5 fits"):
        learn_directions(theta[:5], 4)


def test_the_penalty_is_that_of_the_covariance():
    rng = np.random.default_rng(0)
    found = learn_directions(rng.normal(size=(9, POOLED.size)) * np.linspace(1, 3, POOLED.size), 3)
    precision = np.full(POOLED.size, 0.02)
    matrix = 0.02 * (np.eye(POOLED.size) - found.rows.T @ np.diag(1 - found.ratio) @ found.rows)
    assert np.linalg.eigvalsh(matrix).min() > 0
    member, true = recorded(0, np.zeros(POOLED.size), np.zeros((N, N)), rng, 24)
    theta = jnp.asarray(rng.normal(size=POOLED.size))
    base = member.problem | {"fc": true, "prior": found.centre}
    value = jax.jit(pooled_objective, static_argnums=0)
    loose = value(POOLED, base | direction_penalty(found, precision), theta)
    tight = value(POOLED, base | {"precision": precision}, theta)
    deviation = theta - found.centre
    expected = tight - 0.02 * deviation @ deviation + deviation @ matrix @ deviation
    assert float(loose) == pytest.approx(float(expected), rel=1e-12)


def test_maps_are_held_less_than_what_they_leave():
    rng = np.random.default_rng(0)
    maps, precision = rng.normal(size=(N, 2)), np.full(POOLED.size, 0.01)
    more = map_penalty(POOLED, precision, maps - maps.mean(axis=0), 0.6)

    def penalty(field):
        theta = np.zeros(POOLED.size)
        theta[POOLED.blocks["noise"]] = field
        along = more["directions"] @ theta
        return float(np.sum(more["precision"] * theta**2) - np.sum(more["ease"] * along**2))

    one = maps[:, 0] - maps[:, 0].mean()
    assert penalty(np.ones(N)) == pytest.approx(0.01 * N)
    assert penalty(one) == pytest.approx(0.0001 * one @ one)
    design = np.column_stack([np.ones(N), maps])
    field = rng.normal(size=N)
    rest = field - design @ np.linalg.lstsq(design, field, rcond=None)[0]
    assert penalty(rest) == pytest.approx((0.01 + 0.6 / N) * rest @ rest)


@pytest.fixture(scope="module")
def mapped():
    """Eight short recordings; the noise follows a map by 0.5, the leak by -0.4 (log units a standard deviation)."""
    common = np.random.default_rng([5, 0])
    maps = common.normal(size=(N, 2))
    maps = (maps - maps.mean(axis=0)) / maps.std(axis=0)
    fields = np.concatenate([-0.4 * maps[:, 0], 0.5 * maps[:, 0]]) + 0.1 * common.normal(size=2 * N)
    centre = np.concatenate([np.zeros(2), fields, 0.6 * common.normal(size=N)])
    pattern = common.normal(size=(N, N))
    found = []
    for k in range(8):
        own = np.random.default_rng([5, 1, k])
        found.append(recorded(k, centre + 0.1 * own.normal(size=POOLED.size), pattern, own, 18))
    return [list(part) for part in zip(*found, strict=True)], maps


def test_fields_that_follow_a_map_are_found_and_predict_better(mapped):
    (people, true), maps = mapped
    found, without = (pooled(people, maps=given) for given in (maps, None))
    assert found.candidates[found.chosen].maps > 0
    (leak, noise), (leak_error, noise_error) = found.map_coefficient, found.map_error
    # errors of .1 at most in six draws of this design, a field has 0.1 of its own in each region
    assert noise[0] == pytest.approx(0.5, abs=0.16)
    assert abs(noise[1]) < 0.16
    # so little data hardly identify leaks, and the standard error says so
    assert leak_error[0] > 3 * noise_error[0]
    assert leak[0] == pytest.approx(-0.4, abs=3 * leak_error[0])
    priors = [
        [model_fc(POOLED, m.problem, jnp.asarray(t)) for m, t in zip(people, fit.prior, strict=True)]
        for fit in (found, without)
    ]
    assert missing(priors[0], true) < 0.95 * missing(priors[1], true)
    assert missing(found.fc, true) < missing(without.fc, true)


def test_a_map_without_meaning_is_left_out_or_weighs_little(mapped):
    (people, _), maps = mapped
    other = np.random.default_rng(9).normal(size=N)
    design = np.column_stack([np.ones(N), maps[:, 0]])
    other -= design @ np.linalg.lstsq(design, other, rcond=None)[0]
    found = pooled(people, maps=np.column_stack([maps[:, 1], other / other.std()]))
    small = np.abs(found.map_coefficient[1]).max() < 0.2
    assert found.candidates[found.chosen].maps == 0 or small


def test_coefficients_and_their_jackknife():
    rng = np.random.default_rng(0)
    maps, theta = rng.normal(size=(N, 2)), np.zeros(POOLED.size)
    theta[POOLED.blocks["noise"]] = 3.0 + maps @ [0.5, -0.2]
    np.testing.assert_allclose(map_coefficients(POOLED, theta, maps), [[0, 0], [0.5, -0.2]], atol=1e-12)
    values = rng.normal(size=20)
    left_out = (values.sum() - values) / 19
    mean, error = jackknife(left_out)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(20))


def table(folder, *rows, header="region\tmyelin\tgradient1"):
    path = folder / "maps.tsv"
    path.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_maps_are_put_in_order_and_scaled(tmp_path):
    path = table(tmp_path, ("x", 0, 0), ("b", 1.0, 5), ("a", 3.0, 1), ("d", 2.0, 1), ("c", 2.5, 0))
    found = read_brain_maps(path, ["a", "b", "c", "d"])
    assert found.names == ("myelin", "gradient1")
    np.testing.assert_allclose(found.values.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(found.values.std(axis=0), 1)
    assert list(np.argsort(found.values[:, 0])) == [1, 3, 2, 0]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            [("a", 1)],
            "label\tmyelin",
            "columns are label, myelin; there must be region, and one column a map",
        ),
        ([("a", 1, 2)], "region\tm\tm", "column m is there twice"),
        ([("a", 1), ("a", 2)], "region\tm", "region a is listed twice"),
        (
            [("a", 1), ("b", "n/a")],
            "region\tm",
            "map m has no value for regions b, c, d, e, f and 1 more; add",
        ),
        ([(k, 1 if k != "c" else "thick") for k in "abcdefg"], "region\tm", "map m of region c is 'thick'"),
        ([(k, 7.1) for k in "abcdefg"], "region\tm", "map m is the same in all regions; leave it out"),
        (
            [(k, i, 2 * i + 1) for i, k in enumerate("abcdefg")],
            "region\tm\tn",
            "one of the maps m, n follows",
        ),
        (
            [(k, i, i**2, i**3, i**4) for i, k in enumerate("abcdefg")],
            "region\tm\tn\to\tp",
            "4 maps are too many",
        ),
    ],
)
def test_what_is_wrong_with_maps_is_said_in_a_sentence(tmp_path, rows, header, message):
    with pytest.raises(DataError) as caught:
        read_brain_maps(table(tmp_path, *rows, header=header), list("abcdefg"))
    assert message in str(caught.value)


def test_maps_are_checked_before_any_compute(tmp_path):
    def problems(path):
        return map_problems(validate_config({"pool": {"maps": str(path)}}))

    assert problems(tmp_path / "no.tsv") == [
        f"pool.maps: {tmp_path}/no.tsv is not a file; correct the path, or set pool.maps to null"
    ]
    (text,) = problems(table(tmp_path, ("V1_L", 1, 2)))
    assert text.startswith("pool.maps: ") and "map myelin has no value for regions" in text
    assert map_problems(validate_config({})) == []
