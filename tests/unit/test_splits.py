"""Splits share no frame, never cross segments, and leave a gap before validation."""

import numpy as np
import pytest

from brainloom.analysis.clean import clean, minimum_frames
from brainloom.analysis.dof import decorrelation_frames
from brainloom.analysis.splits import make_splits

TR = 0.72


def run(n, number):
    """Noise whose first column says which frame of which run this is."""
    x = np.random.default_rng(number).normal(size=(n, 8)).cumsum(axis=0)
    x[:, 0] = number * 10_000 + np.arange(n)
    return x


def frames(segments):
    return np.concatenate([segment[:, 0] for segment in segments]).astype(int)


def test_halves_of_one_run():
    splits = make_splits([run(1201, 0)], TR, "halves")
    np.testing.assert_array_equal(frames(splits["train"]), np.arange(600))
    np.testing.assert_array_equal(frames(splits["test"]), np.arange(600, 1201))
    np.testing.assert_array_equal(frames(splits["validation"]), np.arange(400, 600))
    gap = decorrelation_frames(clean(splits["train"][0], TR))
    assert gap > 1
    np.testing.assert_array_equal(frames(splits["train_early"]), np.arange(400 - gap))


def test_halves_of_several_runs_are_halved_each():
    splits = make_splits([run(500, 0), run(400, 1)], TR, "halves")
    assert [len(s) for s in splits["train"]] == [250, 200]
    assert [len(s) for s in splits["test"]] == [250, 200]
    np.testing.assert_array_equal(frames(splits["test"]), np.r_[250:500, 10_200:10_400])
    np.testing.assert_array_equal(frames(splits["validation"]), np.arange(10_050, 10_200))
    gap = max(decorrelation_frames(clean(part, TR)) for part in splits["train"])
    early = np.r_[0:250, 10_000:10_200][: 300 - gap]
    kept = frames(splits["train_early"])
    np.testing.assert_array_equal(kept, early[: len(kept)])
    # What is missing at the end can only be a piece too short to be filtered.
    assert len(early) - len(kept) < minimum_frames(2)


def test_whole_runs():
    splits = make_splits([run(300, k) for k in range(3)], TR, "runs")
    assert [s[0, 0] for s in splits["train"]] == [0]
    assert [s[0, 0] for s in splits["test"]] == [10_000, 20_000]
    four = make_splits([run(300, k) for k in range(4)], TR, "runs")
    assert [s[0, 0] for s in four["train"]] == [0, 10_000]


@pytest.mark.parametrize("how", ["halves", "runs"])
def test_train_and_test_never_share_a_frame(how):
    splits = make_splits([run(401, 0), run(350, 1), run(303, 2)], TR, how)
    train, test = set(frames(splits["train"])), set(frames(splits["test"]))
    early, validation = set(frames(splits["train_early"])), set(frames(splits["validation"]))
    assert not train & test and not early & validation
    assert early | validation <= train
    assert len(train | test) == 401 + 350 + 303


def test_cleaning_a_split_does_not_see_the_rest():
    x = run(800, 0)
    changed = x.copy()
    changed[400:] *= -3
    a, b = (clean(make_splits([y], TR, "halves")["train"][0], TR) for y in (x, changed))
    np.testing.assert_array_equal(a, b)


def test_problems_are_named():
    with pytest.raises(
        ValueError, match=r"signal\.splits is runs, which needs at least 2 runs, and there is 1"
    ):
        make_splits([run(300, 0)], TR, "runs")
    with pytest.raises(ValueError, match="a part of a run has 30 frames"):
        make_splits([run(60, 0)], TR, "halves")
    with pytest.raises(ValueError, match=r"signal\.splits is thirds; it must be halves or runs"):
        make_splits([run(300, 0)], TR, "thirds")
