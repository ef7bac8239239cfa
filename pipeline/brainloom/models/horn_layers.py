"""Layers and networks of harmonic oscillators (HORN) for sequences."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.models.declare import Arrays
from brainloom.models.horn import HORNStep, advance

Param = brainstate.nn.Param
WEIGHTS = ("W_ih", "b_ih", "W_hh", "b_hh")


class HORNSeqLayer(brainstate.nn.Module):
    """
    A layer of n oscillators that reads a sequence.

    Each step of the map of `HORNStep` is driven by
    ``W_ih s_t + b_ih + (W_hh y + b_hh + v x) / sqrt(n)``: the recurrence reads the velocity y, and the amplitude
    feedback is inside the bracket (in a lone `HORNStep`, n is 1). With delays, ``y_j`` is that of ``delay[i, j]``
    steps before.

    Parameters
    ----------
    n_input : int
        Features of the input.
    n_hidden : int
        Number of oscillators n.
    alpha, omega, gamma, v, h : float, (n,) array or Param
        See `HORNStep`.
    delay : (n, n) array of int, optional
        Steps from unit j to unit i, ``delay[i, j]``; 0 reads the current y. The y before the start is the
        initial one, held.
    W_ih, b_ih, W_hh, b_hh : arrays (n, n_input), (n,), (n, n), (n,) or Param, optional
        Weights, kept as Params: arrays, or functions of the shape. By default normal with standard deviation
        ``sqrt(2 / n_input)`` (W_ih) and 2 (W_hh: the spectral radius of ``W_hh / sqrt(n)`` is then 2, which lets
        inputs at different times interact in the tanh; smaller ones learn more slowly), biases 0.
    key : jax.random key, optional
        For the default weights; else ``brainstate.random``.

    Attributes
    ----------
    horn : HORNStep
        The oscillators; ``horn.x`` and ``horn.y`` are the hidden states, (n,) or (batch, n).
    W_ih, b_ih, W_hh, b_hh : Param
    history : HiddenState
        Only with delays: past y, (steps, ..., n), newest first.

    Notes
    -----
    No time step is read: a step is an index. `update` starts from the hidden state and leaves the last one
    there; call `init_state` before a new sequence. `run` is its pure form, for ``jax`` transformations.

    References
    ----------
    Effenberger, Carvalho, Dubinin & Singer 2025, PNAS 122:e2412830122.
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: int,
        *,
        alpha: Any = 0.04,
        omega: Any = 2.0 * pi / 28.0,
        gamma: Any = 0.01,
        v: Any = 0.0,
        h: Any = 1.0,
        delay: Any = None,
        W_ih: Any = None,
        b_ih: Any = None,
        W_hh: Any = None,
        b_hh: Any = None,
        key: jax.Array | None = None,
    ) -> None:
        super().__init__()
        self.n_input, self.n_hidden = n_input, n_hidden
        self.in_size, self.out_size = (n_input,), (n_hidden,)
        self.horn = HORNStep(n_hidden, alpha=alpha, omega=omega, gamma=gamma, v=v, h=h)
        self.delay = None if delay is None else _checked_delay(delay, n_hidden)
        keys = jax.random.split(brainstate.random.split_key() if key is None else key)
        self.W_ih = _weight("W_ih", W_ih, (n_hidden, n_input), (2.0 / n_input) ** 0.5, keys[0])
        self.b_ih = _weight("b_ih", b_ih, (n_hidden,))
        self.W_hh = _weight("W_hh", W_hh, (n_hidden, n_hidden), 2.0, keys[1])
        self.b_hh = _weight("b_hh", b_hh, (n_hidden,))

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the hidden states at rest, (n,) or (batch, n)."""
        self.horn.init_state(batch_size)
        if self.delay is not None:
            self.history = brainstate.HiddenState(self.start(batch_size)["history"])

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Put the hidden states back to rest."""
        for name, value in self.start(batch_size).items():
            getattr(self._holder(name), name).value = value

    def start(self, batch_size: int | None = None) -> Arrays:
        """Hidden state at the start, for `run`: ``x``, ``y`` and, with delays, ``history``."""
        state = self.horn.initial_values(batch_size)
        if self.delay is not None:
            steps = int(self.delay.max()) + 1
            state["history"] = jnp.broadcast_to(state["y"], (steps, *state["y"].shape))
        return state

    def weights(self) -> Arrays:
        """Current values of what can be trained, for `run`: Params with ``fit=True``, transforms applied."""
        found = {name: getattr(self, name) for name in WEIGHTS} | self.horn.trainable()
        return {name: param.value() for name, param in found.items() if param.fit}

    def run(self, weights: Arrays, state: Arrays, inputs: jax.Array) -> tuple[Arrays, jax.Array]:
        """
        Read a sequence; a pure function.

        Parameters
        ----------
        weights : dict of arrays
            As from `weights`; what is missing keeps its current value.
        state : dict of arrays
            As from `start`.
        inputs : (time, [batch,] n_input) array

        Returns
        -------
        state : dict of arrays
            After the sequence.
        x : (time, [batch,] n_hidden) array
        """
        p = self.horn.parameter_values() | {name: getattr(self, name).value() for name in WEIGHTS} | weights
        n = self.n_hidden
        wanted = (*state["x"].shape[:-1], self.n_input)
        if jnp.shape(inputs)[1:] != wanted:
            raise ValueError(
                f"inputs have shape {jnp.shape(inputs)}; the hidden state needs "
                f"(time, {', '.join(map(str, wanted))}); call init_state with the size of the batch"
            )
        scale = n**-0.5
        driven = inputs @ p["W_ih"].T + p["b_ih"] + scale * p["b_hh"]
        recurrent, feedback = scale * p["W_hh"], scale * p["v"]
        if self.delay is not None:
            # One matrix for each delay that occurs, side by side: the delayed sum is one product.
            occurring = np.unique(self.delay)
            masks = jnp.asarray(occurring[:, None, None] == self.delay, recurrent.dtype)
            recurrent = jnp.moveaxis(masks * recurrent, 0, 1).reshape(n, -1)

        def one(state: Arrays, drive: jax.Array) -> tuple[Arrays, jax.Array]:
            if self.delay is None:
                read = state["y"]
            else:
                past = state["history"][occurring]
                read = jnp.moveaxis(past, 0, -2).reshape(*past.shape[1:-1], -1)
            new = advance(p, state, drive + read @ recurrent.T + feedback * state["x"])
            if self.delay is not None:
                new["history"] = jnp.concatenate([new["y"][None], state["history"][:-1]])
            return new, new["x"]

        return jax.lax.scan(one, state, driven)

    def update(self, inputs: jax.Array) -> jax.Array:
        """
        Read a sequence from the hidden state on.

        Parameters
        ----------
        inputs : (time, [batch,] n_input) array

        Returns
        -------
        (time, [batch,] n_hidden) array: x of every step
        """
        names = ("x", "y") if self.delay is None else ("x", "y", "history")
        if not all(hasattr(self._holder(name), name) for name in names):
            raise ValueError("the layer has no hidden state yet; call init_state(batch_size)")
        holders = {name: getattr(self._holder(name), name) for name in names}
        new, x = self.run({}, {name: holder.value for name, holder in holders.items()}, inputs)
        for name, holder in holders.items():
            holder.value = new[name]
        return x

    def _holder(self, name: str) -> Any:
        return self if name == "history" else self.horn


class HORNSeqNetwork(brainstate.nn.Module):
    """
    Stacked `HORNSeqLayer` and a linear readout of the last x: a classifier of sequences.

    Parameters
    ----------
    n_input, n_output : int
        Features of the input, numbers in the output.
    n_hidden : int or sequence of int
        Oscillators of each layer.
    alpha, omega, gamma, v, h : float, array or Param
        Of every layer, see `HORNStep`.
    delay : (n, n) array of int, or sequence of such arrays or None, optional
        Of every layer, or of each, see `HORNSeqLayer`.
    W_out, b_out : arrays (n_output, n), (n_output,) or Param, optional
        Readout; by default normal with standard deviation ``sqrt(2 / n)`` of the last layer, and 0.
    key : jax.random key, optional
        For the default weights; else ``brainstate.random``.

    Attributes
    ----------
    layers : list of HORNSeqLayer
    W_out, b_out : Param

    Notes
    -----
    ``network(inputs)`` reads (time, [batch,] n_input) and returns ([batch,] n_output). Call `init_state` before each
    batch of sequences. `run` is its pure form.

    References
    ----------
    Effenberger, Carvalho, Dubinin & Singer 2025, PNAS 122:e2412830122.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network = HORNSeqNetwork(2, 16, 3, key=jax.random.key(0))
    >>> network.init_state(5)
    >>> network(jnp.ones((8, 5, 2))).shape
    (5, 3)
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: int | Sequence[int],
        n_output: int,
        *,
        alpha: Any = 0.04,
        omega: Any = 2.0 * pi / 28.0,
        gamma: Any = 0.01,
        v: Any = 0.0,
        h: Any = 1.0,
        delay: Any = None,
        W_out: Any = None,
        b_out: Any = None,
        key: jax.Array | None = None,
    ) -> None:
        super().__init__()
        sizes = (n_hidden,) if isinstance(n_hidden, int) else tuple(n_hidden)
        delays = (
            delay if isinstance(delay, (list, tuple)) and np.ndim(delay[0]) != 1 else (delay,) * len(sizes)
        )
        if len(delays) != len(sizes):
            raise ValueError(f"{len(delays)} delays are given for {len(sizes)} layers; give one for each")
        self.in_size, self.out_size = (n_input,), (n_output,)
        keys = jax.random.split(brainstate.random.split_key() if key is None else key, len(sizes) + 1)
        constants = {"alpha": alpha, "omega": omega, "gamma": gamma, "v": v, "h": h}
        self.layers = [
            HORNSeqLayer(before, size, delay=own, key=one, **constants)
            for before, size, own, one in zip((n_input, *sizes[:-1]), sizes, delays, keys, strict=False)
        ]
        self.W_out = _weight("W_out", W_out, (n_output, sizes[-1]), (2.0 / sizes[-1]) ** 0.5, keys[-1])
        self.b_out = _weight("b_out", b_out, (n_output,))

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the hidden states of every layer at rest."""
        for layer in self.layers:
            layer.init_state(batch_size)

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Put the hidden states of every layer back to rest."""
        for layer in self.layers:
            layer.reset_state(batch_size)

    def start(self, batch_size: int | None = None) -> list[Arrays]:
        """Hidden states at the start, for `run`."""
        return [layer.start(batch_size) for layer in self.layers]

    def weights(self) -> dict[str, Any]:
        """Current values of what can be trained, for `run`: Params with ``fit=True``, transforms applied."""
        own = {name: getattr(self, name) for name in ("W_out", "b_out")}
        trained = {name: param.value() for name, param in own.items() if param.fit}
        return {"layers": [layer.weights() for layer in self.layers]} | trained

    def run(
        self, weights: dict[str, Any], state: list[Arrays], inputs: jax.Array
    ) -> tuple[list[Arrays], jax.Array]:
        """
        Read sequences; a pure function.

        Parameters
        ----------
        weights : dict
            As from `weights`; what is missing keeps its current value.
        state : list of dicts
            As from `start`.
        inputs : (time, [batch,] n_input) array

        Returns
        -------
        state : list of dicts
        output : ([batch,] n_output) array
        """
        last, x = [], inputs
        given = weights.get("layers", [{} for _ in self.layers])
        for layer, own, values in zip(self.layers, state, given, strict=True):
            new, x = layer.run(values, own, x)
            last.append(new)
        return last, self._readout(weights, x)

    def update(self, inputs: jax.Array) -> jax.Array:
        """
        Read sequences from the hidden states on.

        Parameters
        ----------
        inputs : (time, [batch,] n_input) array

        Returns
        -------
        ([batch,] n_output) array
        """
        x = inputs
        for layer in self.layers:
            x = layer(x)
        return self._readout({}, x)

    def _readout(self, weights: dict[str, Any], x: jax.Array) -> jax.Array:
        p = {name: getattr(self, name).value() for name in ("W_out", "b_out")} | weights
        return x[-1] @ p["W_out"].T + p["b_out"]


def _checked_delay(delay: Any, n: int) -> np.ndarray:
    given = np.asarray(delay)
    if given.shape != (n, n) or not np.issubdtype(given.dtype, np.integer) or given.min() < 0:
        raise ValueError(
            f"delay has shape {given.shape} and type {given.dtype}; "
            f"it must be a ({n}, {n}) array of steps, whole numbers from 0"
        )
    return given


def _weight(
    name: str, given: Any, shape: tuple[int, ...], deviation: float = 0.0, key: jax.Array | None = None
) -> Param:
    if given is None:
        dtype = jnp.result_type(float)
        given = jnp.zeros(shape, dtype) if key is None else deviation * jax.random.normal(key, shape, dtype)
    if isinstance(given, Param):
        found = given
    else:
        found = Param(jnp.asarray(given(shape) if callable(given) else given, jnp.result_type(float)))
    if jnp.shape(found.value()) != shape:
        raise ValueError(f"{name} has shape {jnp.shape(found.value())}; it must be {shape}")
    return found
