"""Simulation stages of the route ``fc``: the same coordinates as in the analytic stage, by runs of the full stochastic model."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.fit.gauge import fix_gauge

# isort: split
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from brainloom.core.config_fc import FC_TIME_STEP
from brainloom.core.keys import named_key
from brainloom.fit import checkpoint
from brainloom.fit.coordinates import Coordinates, theta_of
from brainloom.fit.fitter import Fitter
from brainloom.fit.predict import effective_weights
from brainloom.fit.problem import FitSetup, Problem
from brainloom.fit.realise import diffusive_network, fastest_rate, stationary_start
from brainloom.fit.resume import CheckpointError
from brainloom.fit.simulated_targets import DECIDING, FITTED, StageObjective, stage_targets
from brainloom.fit.trainable import StartError
from brainloom.network import Network
from brainloom.observe.filters import BandPass
from brainloom.simulate import Simulator
from brainloom.stiffness import stable_step

Found = dict[str, np.ndarray]
# How far to go from the first point to the one that a stage has reached: its noise is fitted too, and the more the farther.
SHARES = (0.25, 0.5, 0.75, 1.0)
# Realisations by which stages are compared on the validation part.
N_DECIDING = 8
# Rates may grow so much during a stage before the time step is too long for them.
FASTER = 2.0
# Gradients longer than this are shortened: those of FC are below 1 unless they explode over time.
CLIP = 1.0
# Steps between saves of a stage that may be killed.
SAVE_EVERY = 5


@dataclass(frozen=True)
class Run:
    """
    How the network is simulated in a stage: what a compiled program depends on besides shapes.

    Attributes
    ----------
    setup : FitSetup
    tr, dt : float
        s.
    n_frames, n_transient : int
        Frames that are compared, and frames that are simulated first.
    band : (low, high)
        Hz.
    order : int
        Of the band-pass.
    global_signal : bool
        Whether the global signal is regressed out.
    """

    setup: FitSetup
    tr: float
    dt: float
    n_frames: int
    n_transient: int
    band: tuple[float, float]
    order: int
    global_signal: bool

    def bold(self, problem: Problem, theta: jax.Array, start: Mapping[str, jax.Array], key: jax.Array) -> Any:
        """
        Simulated BOLD at coordinates `theta`, (time, realisation, region), ``raw`` and ``clean`` as the recording was.

        Parameters
        ----------
        problem : dict of arrays
            Besides those of the analytic stage ``level`` and ``saturation``.
        theta : (size,) array
        start : dict of (realisation, region) arrays
        key : jax.random key
        """
        network = coordinates_network(self.setup, problem, theta)
        realisations = len(next(iter(start.values())))
        run = Simulator(network, self.dt, method="stochastic_heun").run(
            (self.n_frames + self.n_transient) * self.tr,
            key=key,
            sample_every=self.tr,
            transient=self.n_transient * self.tr if self.n_transient else None,
            batch_size=realisations,
            monitors=["bold"],
            initial=start,
            check=False,
        )
        clean = BandPass(*self.band, order=self.order).series({}, run["bold"], self.tr)
        return {"raw": run["bold"], "clean": without_global_signal(clean) if self.global_signal else clean}


def coordinates_network(setup: FitSetup, problem: Problem, theta: jax.Array) -> Network:
    """The nonlinear stochastic network at coordinates of a fit, as `brainloom.fit.realise.fitted_network` at a finished one."""
    values = fix_gauge(setup, problem, theta, problem["level"], problem["saturation"])
    parameters = {setup.local: values["local"]}
    if setup.rotating:
        parameters |= {"beta": values["beta"], "w": problem["omega"]}
    return diffusive_network(setup.model, effective_weights(problem, values), parameters, values["noise"])


def without_global_signal(x: jax.Array) -> jax.Array:
    """The mean over regions regressed out of (time, realisation, region), as from the recording."""
    centred = x - jnp.mean(x, axis=0)
    mean = jnp.mean(centred, axis=-1, keepdims=True)
    power = jnp.sum(mean * mean, axis=0)
    share = jnp.sum(mean * centred, axis=0) / jnp.where(power > 0.0, power, 1.0)
    return centred - mean * share


@dataclass(frozen=True)
class Stage:
    """
    One simulation stage of a subject.

    Parameters
    ----------
    subject : str
        Label.
    number : int
        Position in ``fit.stages``.
    settings : mapping
        The stage, all keys given.
    setup : FitSetup
    signal : xarray.Dataset
    config : mapping
        Sections ``model`` and ``fit``, and ``seed``.
    """

    subject: str
    number: int
    settings: Mapping[str, Any]
    setup: FitSetup
    signal: xr.Dataset
    config: Mapping[str, Any]

    def fit(self, problem: Problem, theta: np.ndarray, folder: Path | None, label: str) -> Found:
        """
        Fit from one point, and decide on the validation part how far to follow.

        Parameters
        ----------
        problem : dict of arrays
            Of the analytic stage.
        theta : (size,) array
            Where the stage before has ended.
        folder : pathlib.Path, optional
            Where steps and the finished stage are kept.
        label : str
            Name of the file there; it must tell everything apart that the result depends on.

        Returns
        -------
        dict
            ``theta`` that is kept, ``reached`` by the stage; ``loss`` of the reached point, lowest ``validation`` on the
            way there, ``start_loss`` and ``start_validation`` of the first one; ``share`` of the way that is kept (0:
            nothing), ``history``, ``n_steps``, ``kept``.
        """
        done = checkpoint.load(folder, label)
        if done is not None:
            return done
        model = self.config["model"]
        arrays = dict(problem) | {
            "level": jnp.asarray(model["noise_level"], theta.dtype),
            "saturation": jnp.asarray(model["parameters"].get("beta", 1.0), theta.dtype),
        }
        origin = jnp.asarray(theta)
        objective = StageObjective(self.settings["objective"], self.signal)
        targets = stage_targets(self.subject, self.signal, self.settings["objective"])
        network = coordinates_network(self.setup, arrays, origin)
        run = self.run(network)
        given = {
            part: {
                "problem": arrays,
                "features": targets[part],
                "start": stationary_start(network, n, self._key(part, "start")),
                "key": jax.random.key_data(self._key(part, "noise")),
            }
            for part, n in ((FITTED, self.settings["realisations"]), (DECIDING, N_DECIDING))
        }

        def compared(theta: jax.Array, given: Mapping[str, Any]) -> jax.Array:
            key = jax.random.wrap_key_data(given["key"])
            return objective(run.bold(given["problem"], theta, given["start"], key), given["features"])

        def loss(theta: jax.Array, given: Mapping[str, Any]) -> jax.Array:
            return compared(theta, given) + given["problem"]["penalty"] * self.setup.space.penalty(theta)

        decide = jax.jit(compared)
        before = float(decide(origin, given[DECIDING]))
        found = self._minimise(loss, origin, given[FITTED], folder, f"{label}_steps")
        way = [np.asarray(theta) + share * (found["reached"] - np.asarray(theta)) for share in SHARES]
        after = np.array([float(decide(jnp.asarray(point), given[DECIDING])) for point in way])
        best = int(np.argmin(np.where(np.isfinite(after), after, np.inf)))
        kept = bool(after[best] < before) or (math.isfinite(after[best]) and not math.isfinite(before))
        found |= {
            "theta": way[best] if kept else np.asarray(theta),
            "validation": after[best],
            "start_validation": np.asarray(before),
            "share": np.asarray(SHARES[best] if kept else 0.0),
            "kept": np.asarray(kept),
        }
        checkpoint.save(folder, label, found)
        if folder is not None:
            (folder / f"{label}_steps.npz").unlink(missing_ok=True)
        return found

    def run(self, network: Network) -> Run:
        """How the network is simulated: time step, lengths and the filter of the recording."""
        signal, settings = self.signal, self.settings
        config = json.loads(signal.attrs["signal_config"])
        tr = float(signal.attrs["repetition_time"])
        wanted = settings["dt"] or FC_TIME_STEP
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dt = stable_step(tr / math.ceil(tr / wanted - 1e-9), FASTER * fastest_rate(network))
        n_train = int(signal["n_frames"].sel(split="train"))
        duration = settings["duration"]
        return Run(
            setup=self.setup,
            tr=tr,
            dt=dt,
            n_frames=n_train if duration is None else math.ceil(duration / tr - 1e-9),
            n_transient=math.ceil(settings["transient"] / tr - 1e-9),
            band=(float(config["band"][0]), float(config["band"][1])),
            order=int(config["filter_order"]),
            global_signal=bool(config["global_signal_regression"]),
        )

    def _minimise(self, loss: Any, origin: jax.Array, given: Any, folder: Path | None, name: str) -> Found:
        fitter = Fitter(
            Coordinates(origin),
            self._optimizer(),
            predict=theta_of,
            objective=loss,
            backend=self.settings["backend"],
            clip=CLIP if self.settings["backend"] == "grad" else None,
        )
        path = None if folder is None else folder / f"{name}.npz"
        fit = partial(
            fitter.fit,
            given,
            self.settings["steps"],
            key=self._key("search"),
            checkpoint=path,
            checkpoint_every=SAVE_EVERY,
        )
        try:
            try:
                result = fit()
            except CheckpointError:  # damaged, such as by a full disk: what it held is computed again
                path.unlink(missing_ok=True)  # type: ignore[union-attr]
                result = fit()
        except StartError:  # not finite where the stage begins
            nothing = np.asarray(np.nan)
            return {
                "reached": np.asarray(origin),
                "history": np.full(1, np.nan),
                "loss": nothing,
                "start_loss": nothing,
                "n_steps": np.asarray(0),
            }
        history = np.asarray(result.history, float)
        return {
            "reached": np.asarray(result.best_params["theta"]),
            "history": history,
            "loss": np.asarray(float(result.best_loss)),
            "start_loss": history[0],
            "n_steps": np.asarray(int(result.n_steps)),
        }

    def _optimizer(self) -> Any:
        given = self.settings
        name = given["optimizer"]
        if given["backend"] == "grad":
            return "lbfgs" if name == "lbfgs" else optax.adam(given["rate"])
        if given["backend"] == "scipy":
            return name
        # the coordinates are logarithms that start near 0: a step of the first population is a fifth of a parameter
        options = {"sd": 0.2} | ({} if given["population"] is None else {"population": given["population"]})
        return options | ({"method": name or "CMA"} if given["backend"] == "nevergrad" else {})

    def _key(self, *names: str) -> jax.Array:
        return named_key(self.config["seed"], "stage", self.subject, str(self.number), *names)
