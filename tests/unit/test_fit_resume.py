"""A fit whose process is killed and that is resumed gives the numbers of one that was not, bit for bit."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import braintools
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brainstate.nn import Param, SigmoidT

from brainloom import FitResult, Fitter
from brainloom.fit.fitter import CheckpointError

LBFGS = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(20, store_grad=True))


class Valley(brainstate.nn.Module):
    """Two parameters of Rosenbrock's function, and noise."""

    def __init__(self, x=-1.0, y=1.5):
        super().__init__()
        self.x, self.y = Param(x), Param(y, t=SigmoidT(-3.0, 3.0))

    def loss(self, steep=10.0):
        x, y = self.x.value(), self.y.value()
        return (1.0 - x) ** 2 + steep * (y - x * x) ** 2 + 0.1 * x * jnp.mean(brainstate.random.randn(4))


class KilledError(Exception):
    pass


def killed_at(step):
    """A callback that ends the process, as far as the fit can tell."""
    seen = []

    def callback(info):
        seen.append(info["loss"])
        if len(seen) == step:
            raise KilledError

    return callback


WAYS = {
    "adam": (
        "grad",
        lambda: optax.chain(
            optax.clip(5.0), optax.add_noise(0.1, 0.5, 0), optax.adam(optax.cosine_decay_schedule(0.1, 40))
        ),
        40,
        1,
    ),
    "scheduler": (
        "grad",
        lambda: braintools.optim.SGD(lr=braintools.optim.StepLR(base_lr=0.005, step_size=3, gamma=0.5)),
        15,
        1,
    ),
    "lbfgs": ("grad", lambda: "lbfgs", 20, 1),
    "stages": ("grad", lambda: [(optax.adam(0.05), 5), (LBFGS, 15)], None, 2),
    "scipy": ("scipy", lambda: None, 25, 1),
    "starts of scipy": ("scipy", lambda: "Nelder-Mead", 25, 2),
    "cmaes": ("cmaes", lambda: 8, 12, 2),
    "nevergrad": ("nevergrad", lambda: "CMA", 12, 1),
    "swarm": ("nevergrad", lambda: {"method": "PSO", "population": 8}, 12, 1),
}


def fitter_of(way, **more):
    """A fitter and what its fits are called with."""
    backend, optimizer, n_steps, n_starts = WAYS[way]
    fitter = Fitter(Valley(), optimizer(), loss_fn=Valley.loss, backend=backend, **more)
    return fitter, {"n_steps": n_steps, "n_starts": n_starts, "checkpoint_every": 3}


def random_step(way):
    """When to kill: an evaluation of the first dozen steps, some before anything but the key is saved."""
    backend, _, _, n_starts = WAYS[way]
    population = 8 if backend in ("cmaes", "nevergrad") else 1
    return int(np.random.default_rng([6, *way.encode()]).integers(1, 12 * population * n_starts))


def fit_and_die(way, path):
    """What a process does that is killed by the system in the middle of a fit."""
    seen = []

    def callback(info):
        seen.append(info)
        if len(seen) == random_step(way):
            os.kill(os.getpid(), signal.SIGKILL)

    fitter, options = fitter_of(way, callbacks=callback)
    fitter.fit(key=jax.random.key(4), checkpoint=path, **options)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with the checkpoints of processes that were killed, one for each way: copies of one that has imported."""
    folder = tmp_path_factory.mktemp("killed")
    script = """
        import os, signal, sys
        from brainloom.core.runtime import configure
        configure(threads=1, precision="float64")
        import nevergrad, scipy.optimize
        from test_fit_resume import WAYS, fit_and_die
        for way in WAYS:
            child = os.fork()
            if child == 0:
                fit_and_die(way, os.path.join(sys.argv[1], way))
                os._exit(0)  # it was to be killed
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, way
    """
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_fit_that_is_resumed_is_the_same_fit(way, killed):
    """Killed by the system, then a second time, then finished."""
    path = killed / way
    fitter, options = fitter_of(way)
    whole = fitter.fit(key=jax.random.key(4), **options)
    # without a key the resumed fit takes the one of the fit that was killed
    seen = []
    with pytest.raises(KilledError):
        fitter_of(way, callbacks=[seen.append, killed_at(2)])[0].fit(checkpoint=path, **options)
    if options["n_starts"] == 1:
        per_step = 8 if WAYS[way][0] in ("cmaes", "nevergrad") else 1
        assert 0 <= random_step(way) - seen[0]["step"] <= 3 * per_step + per_step
    again = fitter_of(way)[0].fit(checkpoint=path, **options)
    assert_same(again, whole)
    # what is finished is not done again
    calls = []
    assert_same(fitter_of(way, callbacks=calls.append)[0].fit(checkpoint=path, **options), whole)
    assert not calls
    assert [file.name for file in killed.iterdir() if file.name.startswith(f"{way}.")] == []
    again.save(killed / "again.npz"), whole.save(killed / "whole.npz")
    assert (killed / "again.npz").read_bytes() == (killed / "whole.npz").read_bytes()
    assert_same(FitResult.load(killed / "again.npz"), whole)


def assert_same(one, other):
    """Equal to the last bit."""
    np.testing.assert_array_equal(one.history, other.history)
    for name, value in other.best_params.items():
        np.testing.assert_array_equal(one.best_params[name], value)
    for name in ("best_loss", "n_steps", "converged", "seeds", "n_skipped", "message", "n_evaluations"):
        assert getattr(one, name) == getattr(other, name), name
    assert (one.starts is None) == (other.starts is None)
    if one.starts is not None:
        np.testing.assert_array_equal(one.starts.history, other.starts.history)
        np.testing.assert_array_equal(one.starts.loss, other.starts.loss)
        assert one.starts.chosen == other.starts.chosen
    assert one.to_xarray().identical(other.to_xarray())


@pytest.mark.parametrize("backend", ["grad", "scipy", "cmaes"])
def test_a_checkpoint_of_another_fit_is_refused(backend, tmp_path):
    path = tmp_path / "fit.ckpt"
    key = jax.random.key(0)

    def fit(model=None, optimizer=None, n_steps=6, loss_fn=Valley.loss, key=key, **more):
        fitter = Fitter(model or Valley(), optimizer, loss_fn=loss_fn, backend=backend, **more)
        return fitter.fit(n_steps=n_steps, key=key, checkpoint=path, checkpoint_every=2)

    def refused(why, **options):
        with pytest.raises(CheckpointError, match=rf"fit.ckpt is the checkpoint of another fit \({why}"):
            fit(**options)

    fit()
    refused("the starts differs", model=Valley(x=-0.9))
    refused("the settings differs", n_steps=7)
    refused("the target or the state of the model differs", key=jax.random.key(1))
    refused("the search space differs", search_space={"x": (-2.0, 2.0)})
    other = {"grad": optax.adam(0.03), "scipy": "BFGS", "cmaes": 12}[backend]
    refused("the loss or the optimiser gives other numbers|the settings differs", optimizer=other)
    refused("the loss", loss_fn=lambda model: model.loss(20.0))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"fit.ckpt is not a checkpoint of a fit, or it is damaged"):
        fit()


def test_another_target_is_another_fit(tmp_path):
    model = brainstate.nn.Module()
    model.gain = Param(0.5)
    fitter = Fitter(model, predict=lambda m: m.gain.value() * jnp.arange(5.0))
    fitter.fit(np.arange(5.0), 4, checkpoint=tmp_path / "c")
    model.gain.set_value(0.5)
    with pytest.raises(CheckpointError, match=r"the target or the state of the model differs"):
        fitter.fit(np.arange(5.0) + 1.0, 4, checkpoint=tmp_path / "c")
