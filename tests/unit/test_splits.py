"""Splits share no frame, never cross segments, and leave a gap before validation."""

import numpy as np
import pytest
from scipy.signal import lfilter

from brainloom.analysis.clean import clean, minimum_frames
from brainloom.analysis.dof import decorrelation_frames
from brainloom.analysis.split_record import read_record, write_record
from brainloom.analysis.splits import design_of, halves, make_splits, segments_of, split_pieces
from brainloom.io.parts import Cut, pieces_of_run, training_and_held_out

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
    with pytest.raises(
        ValueError, match=r"signal\.splits is thirds; it must be halves, runs, sessions or blocks"
    ):
        make_splits([run(300, 0)], TR, "thirds")


def test_sessions_first_half_of_them_is_for_training():
    runs, sessions = [run(200 + k, k) for k in range(6)], ["a", "a", "b", "c", "c", "d"]
    splits = make_splits(runs, TR, "sessions", sessions=sessions)
    assert [int(s[0, 0]) // 10_000 for s in splits["train"]] == [0, 1, 2]
    assert [int(s[0, 0]) // 10_000 for s in splits["test"]] == [3, 4, 5]
    # the last session of the training part decides; sessions need no gap between them
    assert [int(s[0, 0]) // 10_000 for s in splits["validation"]] == [2]
    assert [len(s) for s in splits["train_early"]] == [200, 201]
    # of three sessions one is for training, and its last third decides
    three = make_splits(runs[1:5], TR, "sessions", sessions=sessions[1:5])
    assert [int(s[0, 0]) // 10_000 for s in three["test"]] == [2, 3, 4]
    np.testing.assert_array_equal(frames(three["validation"]), 10_000 + np.arange(134, 201))
    gap = decorrelation_frames(clean(runs[1], TR))
    np.testing.assert_array_equal(frames(three["train_early"]), 10_000 + np.arange(134 - gap))
    # runs without a session are one session
    mixed = make_splits(runs[:3], TR, "sessions", sessions=["", "", "x"])
    assert [len(s) for s in mixed["train"]] == [200, 201] and [len(s) for s in mixed["test"]] == [202]
    with pytest.raises(
        ValueError, match="sessions, which needs at least 2 sessions, and there is 1; use runs"
    ):
        make_splits(runs[:3], TR, "sessions")


def test_blocks_alternate_and_whole_blocks_decide():
    splits = make_splits([run(1200, 0), run(420, 1)], TR, "blocks", block=100 * TR, gap=10 * TR)
    # ten blocks of 100 and nine gaps of 10 are 1090 frames: what is left goes to the blocks
    assert [len(s) for s in (*splits["train"][:5], *splits["test"][:5])] == [111] * 10
    assert [int(s[0, 0]) for s in splits["train"][:3]] == [0, 242, 484]
    assert [int(s[0, 0]) for s in splits["test"][:2]] == [121, 363]
    assert frames(splits["test"][:5])[-1] == 1199
    assert [int(s[0, 0]) for s in splits["train"][5:]] == [10_000]  # a second run has two, of 205
    assert [len(s) for s in (*splits["train"][5:], *splits["test"][5:])] == [205, 205]
    # the last third of six training blocks decides
    assert [int(s[0, 0]) for s in splits["validation"]] == [968, 10_000]
    np.testing.assert_array_equal(frames(splits["train_early"]), frames(splits["train"][:4]))
    # one training block: the last third of its frames, after a gap
    one = make_splits([run(420, 1)], TR, "blocks", block=100 * TR, gap=90 * TR)
    np.testing.assert_array_equal(frames(one["validation"]), 10_000 + np.arange(110, 165))
    assert 110 - len(frames(one["train_early"])) >= 90
    with pytest.raises(
        ValueError, match="has 420 frames, too few for two blocks of 200 and a gap of 30; shorten"
    ):
        make_splits([run(420, 1)], TR, "blocks", block=200 * TR, gap=30 * TR)


def test_a_gap_between_halves_comes_from_both():
    with_gap = make_splits([run(1201, 0)], TR, "halves", gap=101 * TR)
    np.testing.assert_array_equal(frames(with_gap["train"]), np.arange(550))
    np.testing.assert_array_equal(frames(with_gap["test"]), np.arange(651, 1201))
    early, validation = (frames(with_gap[name]) for name in ("train_early", "validation"))
    assert (
        validation[0] - early[-1] - 1 >= 101
    )  # the gap of the study, as it is longer than the decorrelation time


@pytest.mark.parametrize("how", ["halves", "runs", "sessions", "blocks"])
def test_no_frame_is_shared_and_gaps_are_kept_whatever_the_lengths(how):
    """300 random designs; frames are counted one by one, not by the arithmetic that cut them."""
    random = np.random.default_rng(["halves", "runs", "sessions", "blocks"].index(how))
    cut_in_blocks = 0
    for _ in range(300):
        lengths = random.integers(150, 900, size=random.integers(2, 6)).tolist()
        sessions = sorted(random.choice(list("abc"), size=len(lengths)).tolist())
        gaps, block = random.integers(0, 40, size=len(lengths)).tolist(), int(random.integers(20, 120))
        if how == "sessions" and len(set(sessions)) < 2:
            continue
        if how == "blocks" and any(n < 2 * block + g for n, g in zip(lengths, gaps, strict=True)):
            with pytest.raises(ValueError, match="too few for two blocks"):
                training_and_held_out(lengths, Cut(how, block, None), gaps, sessions)
            continue
        train, test = training_and_held_out(lengths, Cut(how, block, None), gaps, sessions)
        assert train and test
        left_out = 0
        for at, n in enumerate(lengths):
            masks = [np.zeros(n, dtype=int) for _ in range(2)]
            for mask, pieces in zip(masks, (train, test), strict=True):
                for piece in pieces:
                    if piece.run == at:
                        assert 0 <= piece.start < piece.stop <= n
                        mask[piece.start : piece.stop] += 1
                        assert how != "blocks" or piece.stop - piece.start >= block
            assert max(mask.max() for mask in masks) <= 1 and not (masks[0] & masks[1]).any()
            here = [np.flatnonzero(mask) for mask in masks]
            left_out += n - sum(map(len, here))
            if how in ("runs", "sessions"):
                assert sorted(map(len, here)) == [0, n]
                continue
            between = np.abs(here[0][:, None] - here[1][None, :]).min() - 1
            assert between == gaps[at]
            sizes = [p.stop - p.start for p in (*train, *test) if p.run == at]
            assert max(sizes) - min(sizes) <= 1 and abs(len(here[0]) - len(here[1])) <= len(sizes)
            cut_in_blocks += len(sizes) > 2
            # two more blocks would not have fitted
            assert how != "blocks" or (len(sizes) + 2) * block + (len(sizes) + 1) * gaps[at] > n
        if how == "sessions":
            trained = {sessions[p.run] for p in train}
            assert not trained & {sessions[p.run] for p in test}
            assert len(trained) == len(set(sessions)) // 2
    assert (cut_in_blocks > 100) == (how == "blocks")


def ar1(phi, n, size, seed):
    """(n, size) independent stationary AR(1) series of unit variance."""
    noise = np.random.default_rng(seed).normal(size=(n, size))
    noise[1:] *= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise, axis=0)


def expected_agreement(train, test, rho):
    """Correlation of two means over frames of a stationary series with autocorrelation ``rho ** lag``."""
    a, b = (np.concatenate([np.arange(p.start, p.stop) for p in pieces]) for pieces in (train, test))

    def covariance(x, y):
        return (rho ** np.abs(x[:, None] - y[None, :])).mean()

    return covariance(a, b) / np.sqrt(covariance(a, a) * covariance(b, b))


def test_what_leaks_through_the_border_of_blocks_is_what_theory_says():
    """Errors of correlations in the held-out blocks follow those in the training blocks, unless a gap is between.

    The product of two independent AR(1) series has autocorrelation phi^(2 lag), so the correlation of the mean products
    of both parts is known. 3,000 pairs: a standard error of 0.018 at 0; bounds are 4 of them.
    """
    phi, n, pairs = 0.97, 600, 3000
    x, y = (ar1(phi, n, pairs, seed) for seed in (1, 2))
    allowed, found = 4 / np.sqrt(pairs), {}
    few = [x[:, :20]]
    for gap in (0.0, 66.0, None):
        config = {"splits": "blocks", "block": 48.0, "gap": gap, "band": None, "filter_order": 2}
        design = design_of(few, 1.0, config)
        pieces = split_pieces(few, 1.0, config, design)
        train, test = pieces["train"], pieces["test"]
        # the last training frame and the first held-out frame of each border
        edges = np.corrcoef(x[train[0].stop - 1], x[test[0].start])[0, 1]
        assert edges == pytest.approx(phi ** (design.gaps[0] + 1), abs=allowed)
        means = [np.concatenate(segments_of([x * y], part)).mean(axis=0) for part in (train, test)]
        agreement = np.corrcoef(*means)[0, 1]
        assert agreement == pytest.approx(expected_agreement(train, test, phi**2), abs=allowed)
        found[gap] = agreement, design.gaps[0]
    assert found[0.0][0] > 0.3  # what a split without gaps would take for a gift
    assert abs(found[66.0][0]) < allowed  # phi^132 = 0.02 at each border
    # The default is one decorrelation time, (1 + phi^2) / (1 - phi^2) = 33 frames for AR(1), estimated to 30 %:
    # frames at the border still correlate at about 1/e, errors of correlations at its square.
    assert found[None][1] == pytest.approx((1 + phi**2) / (1 - phi**2), rel=0.3)
    assert found[None][0] < 0.25 * found[0.0][0] + allowed / 2


def test_halves_of_training_blocks_can_be_compared():
    segments = make_splits([run(1200, 0)], TR, "blocks", block=100 * TR, gap=10 * TR)["train"]
    first, second = halves(segments)
    assert not set(frames(first)) & set(frames(second))
    assert abs(len(frames(first)) - len(frames(second))) <= 1


def test_the_record_gives_back_every_piece():
    runs = [run(600, 0), run(501, 1)]
    config = {"splits": "blocks", "block": 100 * TR, "gap": None, "band": [0.01, 0.1], "filter_order": 2}
    design = design_of(runs, TR, config, names=["ses-a_run-1", "ses-b_run-1"], sessions=["a", "b"])
    assert min(design.gaps) > 1
    pieces = split_pieces(runs, TR, config, design)
    assert read_record(write_record("blocks", pieces, design, [600, 501], TR)) == (pieces, design)
    assert pieces_of_run(99, Cut("blocks", 50)) == []
