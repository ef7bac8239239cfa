"""Pooled fits: what the prior is worth on synthetic subjects, that no test data reach it, and the step."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from ou_cohort import GROUP, KINDS, TR, N, params, store, subject_inputs
from scipy import linalg
from small_fits import linear_setup

from brainloom.analysis.fc import average_correlations, fc_correlation
from brainloom.cohort.batch import Settings, fit_batch
from brainloom.cohort.pool import Member, assign_folds, pool_cohort
from brainloom.cohort.pooled_model import PooledSetup, pooled_covariance, pooled_fc, pooled_objective
from brainloom.core.errors import DataError
from brainloom.core.provenance import file_sha256
from brainloom.fit.predict import functional_connectivity, objective
from brainloom.fit.problem import make_problem
from brainloom.report.reliability_sections import reliability_section
from brainloom.steps.group import main as group
from brainloom.steps.pool import main
from brainloom.store import failed_dataset, read_dataset, write_dataset

SUBJECTS = 6
SETUP = linear_setup(N)
MODEL_CONFIG = {
    "model": {"name": "LinearStep", "parameters": {"gamma": -0.1}},
    "fit": {"lambda": 0.001, "margin": 0.01, "max_steps": 150},
    "signal": {"band": [0.01, 0.1], "filter_order": 2},
}
SEARCH = Settings(max_steps=150)


def network(subject):
    """Weights of a subject, and its true coordinates: those of the group and deviations, two common inputs."""
    common, own = np.random.default_rng(0), np.random.default_rng(50 + subject)
    pattern = common.normal(size=(N, N)) + 0.3 * own.normal(size=(N, N))
    weights = np.exp(0.6 * (pattern + pattern.T))
    np.fill_diagonal(weights, 0.0)
    theta = 0.5 * common.normal(size=SETUP.space.size) + 0.15 * own.normal(size=SETUP.space.size)
    loadings = 0.5 * common.normal(size=2 * N) + 0.15 * own.normal(size=2 * N)
    return weights / weights.sum(1).mean(), np.concatenate([theta, loadings])


def member(subject):
    """Wishart samples around the true FC stand for the parts of a recording, short as in practice."""
    weights, theta = network(subject)
    problem = make_problem(
        SETUP, MODEL_CONFIG, weights=weights, homotope=np.arange(N) ^ 1, fc=np.eye(N), lag1=np.eye(N),
        frequency_hz=np.full(N, 0.05), repetition_time=TR,
    )  # fmt: skip
    true = np.asarray(pooled_fc(PooledSetup(SETUP, 2), problem, jnp.asarray(theta)))
    root, rng = linalg.cholesky(true, lower=True), np.random.default_rng(900 + subject)

    def sample(dof):
        x = rng.normal(size=(dof, N)) @ root.T
        return np.corrcoef(x.T)

    early, validation, test = sample(30), sample(15), sample(45)
    train = average_correlations([early, validation], [2, 1])
    return Member(
        f"{subject:02d}", problem, train, test, early, validation, (300.0, 300.0), (30.0, 45.0)
    ), true


@pytest.fixture(scope="module")
def cohort():
    return zip(*[member(k) for k in range(SUBJECTS)], strict=True)


@pytest.fixture(scope="module")
def members(cohort):
    return [list(part) for part in cohort]


def pooled(members, **more):
    settings = {"ranks": [2], "strengths": [0.01, 0.1], "folds": 10, "seed": 3, "search": SEARCH} | more
    return pool_cohort(SETUP, members, **settings)


@pytest.fixture(scope="module")
def found(members):
    return pooled(members[0])


def test_the_prior_helps_where_subjects_are_alike(members, found):
    """True FC is predicted better than by the fit of each subject alone, by its data, and by the others' mean."""
    people, true = members
    problems = [m.problem | {"fc": m.train} for m in people]
    alone = fit_batch(objective, SETUP, problems, np.zeros((SUBJECTS, SETUP.space.size)), SEARCH)
    unpooled = [functional_connectivity(SETUP, p, o.theta) for p, o in zip(problems, alone, strict=True)]
    others = [average_correlations([o.whole for o in people if o is not m]) for m in people]

    def score(predicted):
        return np.mean([fc_correlation(np.asarray(a), b) for a, b in zip(predicted, true, strict=True)])

    missing = 1.0 - score(found.fc)
    for alternative in ([m.train for m in people], unpooled, others):
        assert missing < 0.85 * (1.0 - score(alternative))


def test_nothing_of_a_subject_reaches_its_prior(members, found):
    people = members[0]
    rng = np.random.default_rng(1)
    other = np.corrcoef(rng.normal(size=(N, 40)))
    changed = pooled([replace(m, test=other) if k == 2 else m for k, m in enumerate(people)])
    # its own test data change nothing of its own: neither prior nor fit nor what was chosen
    np.testing.assert_array_equal(changed.prior[2], found.prior[2])
    np.testing.assert_array_equal(changed.outcomes[2].theta, found.outcomes[2].theta)
    np.testing.assert_array_equal(changed.scores, found.scores)
    assert changed.chosen == found.chosen
    np.testing.assert_array_equal(changed.weights, found.weights)
    # they are data of the others' priors
    assert np.abs(changed.prior[0] - found.prior[0]).max() > 1e-3
    moved = pooled([replace(m, train=other) if k == 2 else m for k, m in enumerate(people)])
    np.testing.assert_array_equal(moved.prior[2], found.prior[2])
    assert np.abs(moved.outcomes[2].theta - found.outcomes[2].theta).max() > 1e-3


def test_data_count_more_where_there_are_more(found):
    # odds of the own FC grow with the effective degrees of freedom: 45 of 30
    inside = found.weights[0] / (1 - found.weights[0]) / 1.5
    grid = np.linspace(0, 1, 21)
    assert np.isclose(grid / np.maximum(1 - grid, 1e-12), inside, rtol=1e-6).any()


def test_learned_precision_tells_blocks_apart(found):
    tried = [one for one in found.candidates if one.learned]
    assert len(tried) == 1 and len(found.candidates) == 3
    assert found.scores.shape == (3, SUBJECTS)
    assert found.chosen == np.argmax(found.scores.mean(axis=1))
    sizes = {name: part.stop - part.start for name, part in found.setup.blocks.items()}
    assert sum(sizes.values()) == found.setup.size
    mean = sum(found.block_precision[name] * size for name, size in sizes.items()) / found.setup.size
    assert mean == pytest.approx(1.0)


def test_folds_are_balanced_and_leave_the_subject_out(members):
    folds = assign_folds(25, 4, 0)
    assert sorted(np.bincount(folds)) == [6, 6, 6, 7]
    assert not np.array_equal(folds, assign_folds(25, 4, 1))
    pairs = pooled(members[0], folds=3, strengths=[0.1], learn_shrinkage=False)
    assert sorted(np.bincount(pairs.fold)) == [2, 2, 2]
    for k, own in enumerate(pairs.fold):
        same = [j for j in range(SUBJECTS) if pairs.fold[j] == own]
        np.testing.assert_array_equal(pairs.prior[k], pairs.prior[same[0]])


def test_the_cohort_may_be_too_small(members):
    with pytest.raises(DataError, match="pooling needs at least three usable subjects, this cohort has 2"):
        pooled(members[0][:2])


def test_covariance_with_common_inputs_solves_the_lyapunov_equation():
    m, _ = member(0)
    _, theta = network(0)
    setup = PooledSetup(replace(SETUP, through_band=False), 2)
    covariance = np.asarray(pooled_covariance(setup, m.problem, jnp.asarray(theta)))
    gamma = -(m.problem["floor"] + (m.problem["rate"] - m.problem["floor"]) * np.exp(theta[2 : 2 + N]))
    k = np.asarray(m.problem["coupling_start"]) * np.exp(theta[0])
    homotopic = np.asarray(m.problem["homotopic_start"]) * np.exp(theta[1])
    weights = k * (np.asarray(m.problem["weights"]) + homotopic * np.asarray(m.problem["homotopic"]))
    jacobian = weights + np.diag(np.asarray(gamma) - weights.sum(1))
    noise, b = np.exp(theta[2 + N : 2 + 2 * N]), theta[2 + 2 * N :].reshape(N, 2)
    rate = np.diag(noise) @ (np.eye(N) + b @ b.T) @ np.diag(noise)
    # scipy's solver and one eigendecomposition, both to about 1e-13 of the largest entry
    expected = linalg.solve_continuous_lyapunov(jacobian, -rate)
    np.testing.assert_allclose(covariance, expected, atol=1e-10 * expected.max())


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradient_of_the_pooled_objective(symmetric):
    m, _ = member(1)
    setup = PooledSetup(replace(SETUP, symmetric=symmetric), 2)
    rng = np.random.default_rng(2)
    theta, direction = (jnp.asarray(rng.normal(size=setup.size)) for _ in range(2))
    more = {"fc": m.train, "prior": 0.1 * rng.normal(size=setup.size), "precision": np.full(setup.size, 0.01)}
    loss = lambda x: pooled_objective(setup, m.problem | more, x)  # noqa: E731
    exact = jax.grad(loss)(theta) @ direction
    # Richardson: error of order h^4, about 1e-9
    h = 1e-3
    slope = lambda h: (loss(theta + h * direction) - loss(theta - h * direction)) / (2 * h)  # noqa: E731
    np.testing.assert_allclose(exact, (4 * slope(h / 2) - slope(h)) / 3, rtol=1e-7)


POOL = {
    **GROUP,
    **MODEL_CONFIG,
    "fit": {
        **MODEL_CONFIG["fit"],
        "through_band": True,
        "objective": {"fc": 1.0, "lag1": 0.0},
        "global": ["coupling"],
        "regional": ["local", "noise"],
    },
    "pool": {
        "rank": [1],
        "lambda": [0.01],
        "folds": 10,
        "learn_shrinkage": False,
        "directions": [3],
        "maps": None,
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    files = []
    for k in range(1, 5):
        inputs = subject_inputs(k, n=400)
        homotope = ("region", np.arange(N) ^ 1)
        inputs["connectome"] = inputs["connectome"].assign_coords(homotope=homotope)
        files.append(store(folder, inputs))
    broken = {kind: failed_dataset(kind, "05", "sub-05 is broken").assign_attrs(study="ou") for kind in KINDS}
    files.append(store(folder, broken))
    return folder, files


def run_pool(folder, files, out="out", more=()):
    outputs = [folder / out / f"{k}.zarr.zip" for k in range(len(files))]
    lists = [w for kind in ("connectome", "signal") for w in (f"--{kind}", *(str(f[kind]) for f in files))]
    words = [*lists, "--output", *map(str, outputs), "--cohort", str(folder / out / "pool.zarr.zip")]
    assert main([*words, *more, *params(POOL)]) == 0
    return [read_dataset(path) for path in outputs], read_dataset(folder / out / "pool.zarr.zip")


def test_the_step_writes_every_subject_and_the_cohort(study):
    folder, files = study
    datasets, cohort = run_pool(folder, files)
    assert [ds.attrs["subject"] for ds in datasets] == ["01", "02", "03", "04", "05"]
    assert datasets[4].attrs["status"] == "failed" and datasets[4].attrs["reason"] == "sub-05 is broken"
    for ds, f in zip(datasets[:4], files, strict=False):
        assert ds.attrs["kind"] == "pooled" and ds.attrs["status"] == "ok"
        train = read_dataset(f["signal"])["fc"].sel(split="train").values
        # the prior holds it back from the .9 and more that the same model reaches alone
        assert fc_correlation(ds["fc_model"].values, train) > 0.7
        assert set(ds["estimate"].dims) == {"parameter", "region"}
        assert json.loads(ds.attrs["input_hashes"])
    assert cohort["score"].shape == (1, 4) and cohort.attrs["chosen"] == 0
    again, _ = run_pool(folder, files, "again")
    assert again[0].attrs["content_hash"] == datasets[0].attrs["content_hash"]


def test_a_part_without_fc_excludes_its_subject_alone(study):
    folder, files = study
    signal = read_dataset(files[1]["signal"])
    signal["fc"].loc[{"split": "validation"}] = np.nan
    path = folder / "flat.zarr.zip"
    write_dataset(path, signal)
    datasets, cohort = run_pool(folder, [files[0], files[1] | {"signal": path}, *files[2:4]], "flat")
    assert [ds.attrs["status"] for ds in datasets] == ["ok", "failed", "ok", "ok"]
    assert "sub-02: FC of the validation part is not a number in 144 places" in datasets[1].attrs["reason"]
    assert list(cohort["subject"].values) == ["01", "03", "04"]


def test_too_few_subjects_are_told_and_exclude_nobody(study):
    folder, files = study
    datasets, cohort = run_pool(folder, [files[0], files[4]], "few")
    for ds in (datasets[0], cohort):
        assert ds.attrs["status"] == "failed"
        assert "at least three usable subjects, this cohort has 1" in ds.attrs["reason"]


def test_the_group_scores_pooled_fits(study, tmp_path):
    from brainloom.steps.analyse import main as analyse

    folder, files = study
    labels = read_dataset(files[0]["signal"])["region"].values
    maps = tmp_path / "maps.tsv"
    maps.write_text(
        "\n".join(["region\tmyelin", *(f"{label}\t{k**2 % 7}" for k, label in enumerate(labels))]) + "\n"
    )
    pool = run_pool(folder, files, "group", ["--maps", str(maps)])[1]
    assert json.loads(pool.attrs["input_hashes"])["maps"] == file_sha256(maps)
    assert pool["map_coefficient"].dims == pool["map_error"].dims == ("field", "map")
    assert list(pool["field"].values) == ["gamma", "noise"] and list(pool["map"].values) == ["myelin"]
    assert list(pool["maps"].values) == [0.0, 0.03, 0.3]
    assert np.isfinite(pool["map_coefficient"].values).all() and (pool["map_error"].values > 0).all()
    for k, f in enumerate(files[:4]):
        f["metrics"] = folder / f"metrics{k}.zarr.zip"
        lists = [
            w for kind in ("connectome", "signal", "fit", "simulation") for w in (f"--{kind}", str(f[kind]))
        ]
        more = params({**GROUP, "analyse": {"fcd": True}})
        assert analyse([*lists, "--output", str(f["metrics"]), *more]) == 0
    used = files[:4]
    index = [("subject", "included", "reason"), *((f"{k:02d}", "yes", "") for k in range(1, 5))]
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(row) for row in index) + "\n")
    lists = [word for kind in KINDS for word in (f"--{kind}", *(str(f[kind]) for f in used))]
    lists += ["--pooled", *(str(folder / "group" / f"{k}.zarr.zip") for k in range(4))]
    lists += ["--pool", str(folder / "group" / "pool.zarr.zip"), "--index", str(tmp_path / "index.tsv")]
    out = tmp_path / "group.zarr.zip"
    assert group([*lists, "--output", str(out), "--tables", str(tmp_path), *params(GROUP)]) == 0
    table = pd.read_csv(tmp_path / "metrics.tsv", sep="\t", dtype={"subject": str})
    rows = table[(table.predictor == "model_pooled") & (table.metric == "fc_r")]
    pooled = read_dataset(folder / "group" / "0.zarr.zip")["fc_model"].values
    for split in ("train", "test"):
        target = read_dataset(used[0]["signal"])["fc"].sel(split=split).values
        one = rows[(rows.subject == "01") & (rows.split == split)].value.item()
        assert one == pytest.approx(fc_correlation(pooled, target), abs=1e-9)
    lag1 = read_dataset(folder / "group" / "0.zarr.zip")["lag1_model"].values.astype(np.float32)
    target = read_dataset(used[0]["signal"])["lag1"].sel(split="test").values
    one = table[(table.predictor == "model_pooled") & (table.metric == "lag1_r") & (table.split == "test")]
    one = one[one.subject == "01"].value.item()
    assert one == pytest.approx(np.corrcoef(lag1.ravel(), target.ravel())[0, 1], abs=1e-6)
    ds = read_dataset(out)
    assert "model_pooled" in ds["compared"].values and "model_pooled" in ds["fingerprint_predictor"].values
    assert ds["pool_score"].dims == ("pool_candidate", "pool_subject")
    np.testing.assert_array_equal(ds["pool_map_coefficient"], pool["map_coefficient"])
    shown = reliability_section(SimpleNamespace(group=out))["pooling"]
    assert [row["map"] for row in shown["maps"]] == ["myelin", "myelin"]
    assert "Brain maps as regional priors" in shown["text_of_maps"]
    lost = tmp_path / "lost.zarr.zip"
    write_dataset(lost, failed_dataset("pooled", "02", "it diverged").assign_attrs(study="ou"))
    without = [str(lost) if word.endswith("group/1.zarr.zip") else word for word in lists]
    assert group([*without, "--output", str(out), "--tables", str(tmp_path), *params(GROUP)]) == 0
    assert "No pooled fit of sub-02: it diverged." in json.loads(read_dataset(out).attrs["warnings"])
    table = pd.read_csv(tmp_path / "metrics.tsv", sep="\t", dtype={"subject": str})
    assert set(table[table.predictor == "model_pooled"].subject) == {"01", "03", "04", "group"}
    wrong = tmp_path / "wrong.zarr.zip"
    write_dataset(wrong, read_dataset(folder / "group" / "1.zarr.zip"))
    swapped = [str(wrong) if word.endswith("group/0.zarr.zip") else word for word in lists]
    assert group([*swapped, "--output", str(out), "--tables", str(tmp_path), *params(GROUP)]) == 2
