"""Networks of neural masses, and their lowering to pure functions on plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from brainloom import integrate
from brainloom.coupling import COUPLINGS, Coupling
from brainloom.models.base import Arrays, NeuralMass


@dataclass(frozen=True)
class Structure:
    """What a compiled program depends on besides shapes: model class, couplings, noisy states, integrator."""

    model: type[NeuralMass]
    couplings: tuple[Coupling, ...]
    noisy: tuple[str, ...]
    method: str


class Network:
    """
    Regions of one model, coupled by a connectome.

    Parameters
    ----------
    node : NeuralMass
        The regions.
    conn : (region, region) array
        ``conn[i, j]`` is the weight from j to i. Its diagonal is ignored.
    coupling : str
        ``"diffusive"`` (default) or ``"additive"``.
    coupled_var : str or sequence of str
        Observables that are sent. The k-th goes to the k-th port of the model, so ``("x", "y")`` couples
        both variables of `HopfStep`.
    gain : scalar
        Global coupling.

    Raises
    ------
    ValueError
        Wrong shape of the connectome, an unknown observable, or more observables than ports.
    """

    def __init__(
        self,
        node: NeuralMass,
        conn: jax.Array,
        *,
        coupling: str = "diffusive",
        coupled_var: str | tuple[str, ...] = "x",
        gain: jax.Array | float = 1.0,
    ) -> None:
        weights = jnp.asarray(conn, dtype=jnp.result_type(float))
        n_regions = node.varshape[0]
        if weights.shape != (n_regions, n_regions):
            raise ValueError(
                f"conn has shape {weights.shape}; {n_regions} regions need {(n_regions, n_regions)}"
            )
        sources = (coupled_var,) if isinstance(coupled_var, str) else tuple(coupled_var)
        unknown = [name for name in sources if name not in node.OBSERVABLES]
        if unknown:
            raise ValueError(
                f"{type(node).__name__} has no observable {unknown[0]!r}; it has {', '.join(node.OBSERVABLES)}"
            )
        if len(sources) > len(node.PORTS):
            raise ValueError(f"{len(sources)} coupled variables but {len(node.PORTS)} ports")
        self.node = node
        self.weights = weights * (1.0 - jnp.eye(n_regions))
        self.gain = gain
        self.couplings = tuple(
            Coupling(coupling, source, port.name) for source, port in zip(sources, node.PORTS, strict=False)
        )

    def parameter_values(self) -> Arrays:
        """All parameters of nodes, noise and coupling as a flat dict of arrays."""
        noise = {f"noise_{name}": value for name, value in self.node.noise_values().items()}
        coupling = {"weights": self.weights, "gain": jnp.asarray(self.gain, self.weights.dtype)}
        return self.node.parameter_values() | noise | coupling


@dataclass(frozen=True)
class Lowered:
    """
    Pure functions of a network on plain arrays; see `lower`.

    Attributes
    ----------
    init : ``init(params, key) -> state``
    step : ``step(params, state, inputs, noise, t) -> (state, outputs)``
    advance : ``advance(params, state, inputs, noise, t)``: leading axis of `noise` and `outputs` is time
    field : ``field(params, state, inputs, t) -> derivative``, coupling included
    params : flat dict of arrays
    noise_shape : (noisy state, region), the unit-variance increments of one step
    structure : Structure
    """

    init: Callable[..., Arrays]
    step: Callable[..., tuple[Arrays, Arrays]]
    advance: Callable[..., tuple[Arrays, Arrays]]
    field: Callable[..., Arrays]
    params: Arrays
    noise_shape: tuple[int, int]
    structure: Structure


def lower(network: Network, dt: jax.Array | float, method: str = "stochastic_heun") -> Lowered:
    """
    Turn a network into pure functions.

    Parameters
    ----------
    network : Network
    dt : float
        Time step in the unit of the model's rates.
    method : str
        See `brainloom.integrate`. Coupling is evaluated at every stage.

    Returns
    -------
    Lowered
        States are dicts of arrays (..., region); leading axes are batches. `inputs` maps port names to
        arrays that are held over a step. Noise of shape (noisy state, ..., region) is scaled by
        ``noise_<state> * sqrt(dt)`` inside.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from brainloom.models import LinearStep
    >>> low = lower(Network(LinearStep(2, gamma=-1.0), jnp.zeros((2, 2))), 0.1, "exp_euler")
    >>> state, out = low.step(low.params, low.init(low.params), {}, None, 0.0)
    >>> round(float(out["source"][0]), 6)  # exp(-0.1), from x = 1
    0.904837
    """
    structure = structure_of(network, method)
    params = network.parameter_values()
    n_regions = network.weights.shape[0]
    start = network.node.initial_values()

    def init(params: Arrays, key: jax.Array | None = None) -> Arrays:
        return dict(start)

    def step(params: Arrays, state: Arrays, inputs: Arrays, noise: jax.Array | None, t: jax.Array) -> tuple:
        return step_structure(structure, params, state, inputs, noise, t, dt)

    def advance(params: Arrays, state: Arrays, inputs: Arrays, noise: jax.Array, t: jax.Array) -> tuple:
        def body(carry: tuple, increment: jax.Array) -> tuple:
            state, t = carry
            state, out = step(params, state, inputs, increment, t)
            return (state, t + dt), out

        carry = (state, jnp.asarray(t, jnp.result_type(float)))
        (last, _), outputs = jax.lax.scan(body, carry, noise)  # type: ignore[var-annotated]
        return last, outputs

    def vector_field(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        return field(structure, params, state, inputs, t)

    shape = (len(structure.noisy), n_regions)
    return Lowered(init, step, advance, vector_field, params, shape, structure)


def structure_of(network: Network, method: str) -> Structure:
    """The static description of a network that compiled programs are keyed by."""
    noisy = tuple(network.node.noise_values())
    return Structure(type(network.node), network.couplings, noisy, integrate.check_method(method))


def field(
    structure: Structure, params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float
) -> Arrays:
    """Derivative of the coupled network."""
    ports = dict(inputs)
    for coupling in structure.couplings:
        source = structure.model.OBSERVABLES[coupling.source](params, state)
        arriving = COUPLINGS[coupling.kind](params["weights"], source, params["gain"])
        ports[coupling.port] = ports.get(coupling.port, 0.0) + arriving
    return structure.model.rhs(params, state, ports, t)


def step_structure(
    structure: Structure,
    params: Arrays,
    state: Arrays,
    inputs: Arrays,
    noise: jax.Array | None,
    t: jax.Array | float,
    dt: jax.Array | float,
) -> tuple[Arrays, Arrays]:
    """One step of a structure; see `Lowered.step`."""
    kicks = {}
    if noise is not None:
        root = jnp.sqrt(dt)
        kicks = {name: params[f"noise_{name}"] * root * noise[k] for k, name in enumerate(structure.noisy)}

    def f(values: Arrays, time: jax.Array | float) -> Arrays:
        return field(structure, params, values, inputs, time)

    new = integrate.stochastic_step(structure.method, f, state, kicks, t, dt)
    return new, {name: observe(params, new) for name, observe in structure.model.OBSERVABLES.items()}
