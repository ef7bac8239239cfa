"""Example data by name: a connectome and a recording of the demo cohort, and a task; register your own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_DATA = Path(__file__).parent / "_data"
_REGISTRY: dict[str, tuple[Callable[[], Any], str]] = {}


class Connectome(NamedTuple):
    """
    A structural connectome.

    Attributes
    ----------
    weights : (region, region) array
        ``weights[i, j]`` is from region j to region i; dimensionless, zero diagonal.
    distances : (region, region) brainunit.Quantity
        Lengths of the connections, mm.
    labels : (region,) array of str
    """

    weights: np.ndarray
    distances: Any
    labels: np.ndarray


class Signal(NamedTuple):
    """
    A regional recording.

    Attributes
    ----------
    signal : (time, region) array
    dt : brainunit.Quantity
        Time between two samples.
    labels : (region,) array of str
    fc : (region, region) array
        Pearson correlation between the regions.
    """

    signal: np.ndarray
    dt: Any
    labels: np.ndarray
    fc: np.ndarray


def register_dataset(name: str, loader: Callable[[], Any], *, description: str = "") -> None:
    """
    Make a dataset known by name.

    Parameters
    ----------
    name : str
        Not yet in use.
    loader : callable without arguments
        Returns the dataset; called anew at each `load_dataset`.
    description : str
        One line for `list_datasets`.

    Raises
    ------
    TypeError
        The loader cannot be called.
    ValueError
        The name is taken.

    Examples
    --------
    >>> from brainloom.datasets import load_dataset, register_dataset
    >>> register_dataset("my pulse", lambda: [0.0, 1.0, 0.0], description="one short stimulus")
    >>> load_dataset("my pulse")
    [0.0, 1.0, 0.0]
    """
    if not callable(loader):
        raise TypeError(
            f"the loader of dataset {name!r} is a {type(loader).__name__}; give a function without "
            "arguments that returns the dataset"
        )
    if name in _REGISTRY:
        raise ValueError(f"a dataset named {name!r} is already registered; choose another name")
    _REGISTRY[name] = (loader, description)


def list_datasets() -> list[tuple[str, str]]:
    """
    Registered datasets.

    Returns
    -------
    list of (name, description), by name.
    """
    return [(name, description) for name, (_, description) in sorted(_REGISTRY.items())]


def load_dataset(name: str) -> Any:
    """
    Load a dataset by its name.

    Parameters
    ----------
    name : str
        See `list_datasets`.

    Returns
    -------
    What the registered loader returns: built in are `Connectome`, `Signal` and a pair (inputs, targets).

    Raises
    ------
    KeyError
        The name is not registered; the message lists those that are.

    Examples
    --------
    >>> from brainloom.datasets import load_dataset
    >>> connectome = load_dataset("example_connectome")
    >>> connectome.weights.shape, str(connectome.distances.unit)
    ((40, 40), 'mm')
    """
    if name not in _REGISTRY:
        raise KeyError(f"no dataset {name!r}; there are {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name][0]()


def delayed_match_task(
    n_trials: int = 128, n_steps: int = 8, n_symbols: int = 2, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """
    Trials of a delayed-match-to-sample task.

    A symbol is shown in the first step and another one in the last; the steps between are empty. The
    question is whether the two are the same. Half of the trials match (one less if their number is odd).

    Parameters
    ----------
    n_trials : int
    n_steps : int
        Length of a trial, at least 2.
    n_symbols : int
        At least 2.
    seed : int

    Returns
    -------
    inputs : (trial, time, symbol) float array
        1 where a symbol is shown, else 0.
    targets : (trial,) int array
        1 if the symbols match, else 0.

    Raises
    ------
    ValueError
        A number is too small.

    Examples
    --------
    >>> from brainloom.datasets import delayed_match_task
    >>> inputs, targets = delayed_match_task(4, seed=1)
    >>> inputs.shape, sorted(targets.tolist())
    ((4, 8, 2), [0, 0, 1, 1])
    """
    for what, value, least in (
        ("n_trials", n_trials, 1),
        ("n_steps", n_steps, 2),
        ("n_symbols", n_symbols, 2),
    ):
        if value < least:
            raise ValueError(f"{what} is {value}; it must be at least {least}")
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(n_trials) % 2)
    sample = rng.integers(n_symbols, size=n_trials)
    other = (sample + rng.integers(1, n_symbols, size=n_trials)) % n_symbols
    trials = np.arange(n_trials)
    inputs = np.zeros((n_trials, n_steps, n_symbols))
    inputs[trials, 0, sample] = 1.0
    inputs[trials, -1, np.where(targets == 1, sample, other)] = 1.0
    return inputs, targets


def _example_connectome() -> Connectome:
    """Streamline counts divided by the largest, so that weights are in [0, 1]; lengths of all pairs."""
    from brainloom.core.units import quantity
    from brainloom.io import connectome, reading

    counts = reading.read_relmat(_DATA / "example_weight.tsv")
    weights, _ = connectome.prepare_weights(counts, normalise="max")
    lengths, _ = connectome.prepare_lengths(reading.read_relmat(_DATA / "example_length.tsv"), weights)
    return Connectome(weights, quantity(lengths, "mm"), _example_bold()[1])


def _example_signal() -> Signal:
    from brainloom.core.units import quantity
    from brainloom.io import reading

    bold, labels = _example_bold()
    seconds = reading.read_repetition_time(_DATA, _DATA / "example_bold.tsv")
    return Signal(bold, quantity(seconds, "s"), labels, np.corrcoef(bold, rowvar=False))


def _example_bold() -> tuple[np.ndarray, np.ndarray]:
    from brainloom.io import reading

    bold, labels = reading.read_timeseries(_DATA / "example_bold.tsv")
    return bold, np.array(labels)


register_dataset(
    "example_connectome",
    _example_connectome,
    description="Connectome of a simulated subject: 40 regions, weights in [0, 1], lengths in mm",
)
register_dataset(
    "example_signal",
    _example_signal,
    description="BOLD of the same subject: 419 frames of 0.72 s, with its functional connectivity",
)
register_dataset(
    "delayed_match_task",
    delayed_match_task,
    description="Delayed match to sample: inputs of 128 trials of 8 steps and 2 symbols, and the answers",
)
