"""Linear theory of a model or network as a user asks for it, and beside a simulation of the full equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import BrainloomError
from brainloom.core.units import number, plain
from brainloom.engine import Arrays
from brainloom.linear.equilibrium import checked_fixed_point
from brainloom.linear.linearised import linearise
from brainloom.linear.stability import rightmost_roots
from brainloom.linear.transfer import cross_spectra
from brainloom.models.lowering import all_values, node_of
from brainloom.simulate import Simulator

# Offsets, in bins of a Welch estimate, at which the density is averaged over the power of the Hann window.
_OFFSETS = np.arange(-3.0, 3.01, 0.25)


class UnstableError(BrainloomError, ArithmeticError):
    """The fixed point is not stable, so fluctuations around it have no spectrum."""


@dataclass(frozen=True)
class Theory:
    """
    What linear theory says about a model.

    Attributes
    ----------
    frequency : (f,) array
        Hz.
    spectra : dict of (f, region, region) complex arrays
        Two-sided density of each output, observable^2/Hz, in the unit in which the model declares it.
    state : dict of (region,) arrays
        The fixed point, in declared units.
    roots : (r,) complex array
        Rightmost characteristic roots, 1/s, delays included.
    """

    frequency: np.ndarray
    spectra: dict[str, np.ndarray]
    state: Arrays
    roots: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """
    Spectra of a simulation beside those of linear theory.

    Attributes
    ----------
    frequency : (f,) array
        Hz.
    simulated, predicted : dict of (f, region, region) complex arrays
        By output, as in `Theory`; `predicted` is seen through the window of the estimate.
    error : dict of float
        ``|simulated - predicted| / |predicted|``, root mean square over frequencies and pairs of regions.
    expected : dict of float
        The same error if theory were exact, from the number of segments alone.
    """

    frequency: np.ndarray
    simulated: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    error: dict[str, float]
    expected: dict[str, float]


def linear_theory(
    model: Any,
    frequency: Any,
    outputs: Sequence[str] = ("eeg",),
    *,
    guess: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Theory:
    """
    Cross-spectra of a model or network around its stable fixed point, delays included.

    Parameters
    ----------
    model : NeuralMass or Network
        With noise: ``noise_<state>`` amplitudes, `WhiteNoise`, `MultiplicativeNoise` (its amplitude at the fixed
        point) or `OUProcess`.
    frequency : (f,) array or Quantity
        Plain numbers in Hz.
    outputs : sequence of str
        Observables.
    guess : dict of arrays, optional
        Where to look for the fixed point, plain numbers in declared units; the initial state of the model if not
        given.
    inputs : dict of arrays, optional
        Constant inputs at ports, plain numbers.

    Returns
    -------
    Theory

    Raises
    ------
    FixedPointError
        There is none near the guess.
    UnstableError
        It is not stable.
    LinearError
        The model or its noise has no linear theory here.

    Examples
    --------
    >>> from brainloom.models import JansenRitStep
    >>> found = linear_theory(JansenRitStep(1, p=330.0, noise_y4=100.0), [8.0, 11.1, 14.0], ["potential"])
    >>> int(found.spectra["potential"][:, 0, 0].real.argmax())
    1
    >>> f"{found.roots[0]:.2f}"  # 1/s: 0.2 of damping at 11.1 Hz
    '-0.23+69.97j'
    """
    node = node_of(model)
    hz = np.atleast_1d(number(frequency, "Hz", "frequency of linear_theory"))
    structure = model.structure(node.method, node.DT)
    values = all_values(model)
    start = node.initial_values() | {k: jnp.asarray(v, float) for k, v in (guess or {}).items()}
    state = checked_fixed_point(structure, values, start, inputs)
    linear = linearise(structure, values, state, tuple(outputs), inputs)
    roots = rightmost_roots(linear, node.time_unit)
    if not roots[0].real < 0.0:
        raise UnstableError(
            f"the fixed point of {type(node).__name__} grows with {roots[0].real:.3g}/s at "
            f"{abs(roots[0].imag) / (2 * np.pi):.3g} Hz, so it has no stationary spectrum; change parameters, or "
            "simulate"
        )
    blocks = cross_spectra(linear, jnp.asarray(hz), node.time_unit)
    return Theory(hz, {name: np.asarray(blocks[name, name]) for name in outputs}, state, roots)


def check_against_simulation(
    model: Any,
    duration: Any,
    *,
    dt: Any,
    key: jax.Array,
    outputs: Sequence[str] = ("eeg",),
    segment: float = 2.0,
    band: tuple[float, float] = (2.0, 40.0),
    transient: Any = None,
    sample_every: Any = None,
    batch_size: int = 1,
    guess: Mapping[str, Any] | None = None,
) -> Agreement:
    """
    Simulate a model and hold its cross-spectra against those of linear theory.

    Parameters
    ----------
    model : NeuralMass or Network
    duration, dt, transient, sample_every
        See `brainloom.simulate.Simulator.run`. Short steps: an Euler scheme damps differently from the equations.
    key : jax.random key
    outputs : sequence of str
    segment : float
        Length of the Hann windows, s, with half of each shared with the next. Resonances narrower than 1/segment are
        compared as the window shows them.
    band : (float, float)
        Hz.
    batch_size : int
        Independent realisations, averaged.
    guess : dict of arrays, optional
        See `linear_theory`; the simulation starts at the fixed point.

    Returns
    -------
    Agreement
        Theory holds for small noise where ``error`` is about ``expected``. If it is larger, fluctuations leave the
        linear range, or dt is too long.

    Raises
    ------
    FixedPointError, UnstableError, LinearError
        See `linear_theory`.
    ValueError
        No frequency of the estimate is within the band.
    """
    node = node_of(model)
    theory = linear_theory(model, [1.0], outputs, guess=guess)
    res = Simulator(model, dt=dt).run(
        duration,
        monitors=list(outputs),
        transient=transient,
        sample_every=sample_every,
        batch_size=batch_size,
        key=key,
        initial=theory.state,
    )
    times = np.asarray(plain(res["ts"], "s", "ts"))
    if not hasattr(res["ts"], "unit"):  # plain times are in the time unit of the model
        times = times * (1e-3 if node.time_unit == "ms" else 1.0)
    step = float(times[1] - times[0])
    length = round(segment / step)
    hz = np.fft.rfftfreq(length, step)
    keep = (hz >= band[0]) & (hz <= band[1])
    if not keep.any() or length > len(times):
        raise ValueError(
            f"segments of {segment:g} s of a run of {step * len(times):g} s have no frequency between {band[0]:g} and "
            f"{band[1]:g} Hz; choose longer segments, a longer run or another band"
        )
    hz = hz[keep]
    kernel = _hann_power(length)
    fine = (hz[:, None] + _OFFSETS / (length * step)).reshape(-1)
    dense = linear_theory(model, fine, outputs, guess=theory.state).spectra
    simulated, predicted, error, expected = {}, {}, {}, {}
    known = node.observables()
    for name in outputs:
        x = np.asarray(plain(res[name], known[name].unit, name, node.time_unit), float)
        found, segments = _welch(x - x.mean(axis=(0, 1)), length, step)
        n = x.shape[-1]
        there = np.einsum("fopq,o->fpq", dense[name].reshape(len(hz), len(_OFFSETS), n, n), kernel)
        simulated[name], predicted[name] = found[keep], there
        size = np.sum(np.abs(there) ** 2)
        error[name] = float(np.sqrt(np.sum(np.abs(found[keep] - there) ** 2) / size))
        power = np.real(np.trace(there, axis1=1, axis2=2))
        # variance of an average over Hann windows that overlap by half: 1.06 of that over as many independent ones
        expected[name] = float(np.sqrt(1.06 / segments * np.sum(power**2) / size))
    return Agreement(hz, simulated, predicted, error, expected)


def _hann_power(length: int) -> np.ndarray:
    """Power of the transform of a Hann window at `_OFFSETS` bins, with the sum 1."""
    t = (np.arange(length) + 0.5) / length
    window = np.sin(np.pi * t) ** 2
    power = np.abs(np.exp(-2j * np.pi * _OFFSETS[:, None] * t) @ window) ** 2
    return power / power.sum()


def _welch(x: np.ndarray, length: int, step: float) -> tuple[np.ndarray, int]:
    """Two-sided cross-spectral density of (time, batch, region) signals, and the number of segments."""
    window = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    starts = range(0, len(x) - length + 1, max(1, length // 2))
    total: Any = 0.0
    for start in starts:
        y = np.fft.rfft(x[start : start + length] * window[:, None, None], axis=0)
        total = total + np.einsum("fbi,fbj->fij", y, np.conj(y))
    segments = len(starts) * x.shape[1]
    return total * step / (np.sum(window**2) * segments), segments
