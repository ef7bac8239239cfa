"""Every objective with a target, for tests of its gradient; each is compiled once, for batches of signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import jax
import jax.numpy as jnp
import numpy as np

from brainloom import objectives as o

N_TIME, N_REGION, DT = 300, 4, 0.02
BATCH = 16
# Compiled for a few runs: what takes long is the compiler.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TIMED = {"dt": DT, "window": 2.0}
FCD_WINDOWS = {"window": 40, "step": 10}
BANDS = {"theta": (4, 8), "alpha": (8, 13)}


def signal(seed, n_time=N_TIME):
    """Noise and waves between 4 and 12 Hz, mixed so that regions correlate."""
    rng = np.random.default_rng(seed)
    t = DT * np.arange(n_time)[:, None]
    waves = np.sin(2 * np.pi * (rng.uniform(7, 11, N_REGION) * t + rng.uniform(0, 1, N_REGION)))
    x = rng.normal(size=(n_time, N_REGION)) + waves * (
        1 + np.sin(2 * np.pi * rng.uniform(0.3, 1, N_REGION) * t)
    )
    return x @ (np.eye(N_REGION) + 0.4 * rng.normal(size=(N_REGION, N_REGION)))


X, Y = signal(0), signal(1)
FC_Y = np.corrcoef(Y.T)


@dataclass
class Case:
    """An objective, its target, and how an array (time, region) becomes its prediction."""

    objective: Any
    target: Any = field(default_factory=lambda: Y)
    prediction: Any = field(default=lambda x: x)

    @property
    def takes_signals(self):
        """The target is a signal, which may be traced, too."""
        return self.target is Y

    def __call__(self, x, target=None):
        """The number that is differentiated."""
        return self.objective(self.prediction(x), self.target if target is None else target)


def spectra(x):
    """Positive definite cross-spectra that depend on a signal."""
    parts = x.reshape(5, -1, N_REGION)
    z = parts[:, :30] + 1j * parts[:, 30:]
    return o.CSD(np.arange(5.0), jnp.einsum("fti,ftj->fij", z, jnp.conj(z)), 30)


def whitened(a, b):
    """Whittle's likelihood as a function of two features."""
    return o.whittle(a.values, b.values, b.n_tapers)


CASES = {
    "timeseries_rmse": Case(o.timeseries_rmse()),
    "cosine_sim": Case(o.cosine_sim(as_loss=True)),
    "fc_corr": Case(o.fc_corr()),
    "fc_corr of a matrix": Case(o.fc_corr(), o.FC(FC_Y), lambda x: o.FC(jnp.corrcoef(x.T))),
    "fc_rmse": Case(o.fc_rmse(), o.FC(FC_Y)),
    "fc_rmse with the diagonal": Case(o.fc_rmse(include_diagonal=True)),
    "fc_rmse of realisations": Case(o.fc_rmse(), Y, lambda x: x.reshape(100, 3, N_REGION)),
    "lagged_fc": Case(o.lagged_fc(2)),
    "lagged_fc rmse": Case(o.lagged_fc(measure="rmse")),
    "fcd": Case(o.fcd(**FCD_WINDOWS, as_loss=True)),
    "fcd_ks": Case(o.fcd_ks(**FCD_WINDOWS)),
    "fcd_wasserstein": Case(o.fcd_wasserstein(**FCD_WINDOWS, bw_method="silverman")),
    "psd_log": Case(o.psd_log(band=(2, 20), **TIMED)),
    "psd_log relative": Case(o.psd_log(relative=True, **TIMED)),
    "psd_log of another grid": Case(
        o.psd_log(band=(2, 20), **TIMED), o.PSD(np.arange(1.0, 24.0), np.ones((N_REGION, 23)))
    ),
    "band_power": Case(o.band_power(BANDS, **TIMED)),
    "band_power relative": Case(o.band_power(BANDS, relative=True, log=False, **TIMED)),
    "spectral_peak": Case(o.spectral_peak((5, 15), **TIMED), o.PeakFrequency([np.nan, 9.0, 10.0, 11.0])),
    "envelope_fc": Case(o.envelope_fc((6, 14), dt=DT)),
    "envelope_fc absolute": Case(o.envelope_fc((6, 14), dt=DT, absolute=True, measure="rmse")),
    "envelope_fc plain": Case(o.envelope_fc((6, 14), dt=DT, orthogonalize=False)),
    "erp": Case(o.erp([1.0, 2.5, 4.0], dt=DT, baseline=(-0.1, 0.0))),
    "erp corr": Case(o.erp([1.0, 2.5, 4.0], dt=DT, measure="corr", as_loss=True)),
    "level": Case(o.level()),
    "amplitude": Case(o.amplitude()),
    "variance": Case(o.variance()),
    "variance rmse": Case(o.variance("rmse")),
    "synchrony": Case(o.synchrony(dt=DT, band=(6, 14))),
    "metastability": Case(o.metastability(dt=DT, band=(6, 14)), o.Metastability(0.1)),
    "gaussian": Case(o.gaussian(0.7)),
    "gaussian with its noise": Case(o.gaussian(), Y, lambda x: o.Normal(x, jnp.exp(0.1 * x[::-1]))),
    "wishart": Case(o.wishart()),
    "wishart of correlations": Case(o.wishart(40.0, correlation=True), o.FC(FC_Y)),
    "cross_spectra": Case(o.cross_spectra(), spectra(Y), spectra),
    "whittle": Case(whitened, spectra(Y), spectra),
    "combine": Case(
        o.combine((1.0, o.on("a", o.fc_corr(as_loss=True))), (0.5, o.on("b", o.amplitude()))),
        {"a": o.FC(FC_Y), "b": Y},
        lambda x: {"a": x, "b": x},
    ),
}


@cache
def program(name):
    """Values and gradients of an objective for a batch of predictions, and of targets if those are signals."""
    case = CASES[name]
    loss = case if case.takes_signals else lambda x, _: case(x)
    return jax.jit(jax.vmap(jax.value_and_grad(loss)), compiler_options=QUICK)


def evaluate(name, signals, targets=None):
    """Values (batch,) and gradients (batch, time, region) of any number of signals."""
    signals = np.asarray(signals)
    targets = np.broadcast_to(Y, (len(signals), *Y.shape)) if targets is None else np.asarray(targets)
    short = -len(signals) % BATCH
    signals, targets = (np.concatenate([x, np.repeat(x[-1:], short, axis=0)]) for x in (signals, targets))
    found = [
        program(name)(signals[k : k + BATCH], targets[k : k + BATCH]) for k in range(0, len(signals), BATCH)
    ]
    values, gradients = (np.concatenate(part)[: len(signals) - short] for part in zip(*found, strict=True))
    return values, gradients
