"""
Gradients through `Fitter`: five minutes of BOLD against C, eight starts at once against one by one, exact moments.

``python benchmarks/fit_gradients.py`` writes ``benchmarks/results/fit_gradients.json``; ``--only bold starts moments``
picks parts. Everything runs on one core with one XLA thread, each measurement in a process of its own. Programs that are
compared take turns, so that ratios hold on a machine that others use too. The time of a step of a fit, value, gradient
and optimiser, is what more steps take than fewer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainloom.core.runtime import configure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "library"))
RESULT = HERE / "results" / "fit_gradients.json"
N_STARTS = 8
PARTS = {
    "starts": ["edges 80", "delays 80", "bold 80", "hopf 80", "moments 80", "bold 10", "hopf 10"],
    "moments": ["linear 80", "hopf 80", "linear 400", "hopf 400", "any 80"],
    "bold": ["gaussian", "weak"],
}


def clock() -> tuple[float, float]:
    """Wall and processor time."""
    return time.perf_counter(), time.process_time()


Times = dict[str, list[tuple[float, float]]]


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor time of one call."""
    begun = clock()
    run()
    now = clock()
    return now[0] - begun[0], now[1] - begun[1]


def steps_of(fit: Callable[[int], Any], n_steps: int) -> tuple[float, float]:
    """Wall and processor time of a step: what `n_steps` more take. Begin with a call that compiles."""
    few, many = timed(lambda: fit(1)), timed(lambda: fit(1 + n_steps))
    return (many[0] - few[0]) / n_steps, (many[1] - few[1]) / n_steps


def medians(taken: Times) -> dict[str, dict[str, float]]:
    """Median seconds of each, wall and processor."""
    return {
        name: {
            "wall_s": statistics.median(x for x, _ in some),
            "cpu_s": statistics.median(x for _, x in some),
            "runs": len(some),
        }
        for name, some in taken.items()
    }


def bold_model(work: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The network of W4b with its 81 parameters to fit, and a function that runs it; see `library/ours.py`."""
    import brainunit as u
    import jax
    from brainstate.nn import Param, SigmoidT, SoftplusT

    import brainloom

    node = brainloom.ReducedWongWangStep(
        work.n_regions,
        a=work.a,
        b=work.b,
        d=work.d,
        gamma=work.gamma,
        tau_S=work.tau,
        J_N=work.j,
        w=Param(work.w, t=SigmoidT(0.0, 1.5)),
        I_o=work.current,
        init_S=work.start,
        noise_S=work.sigma,
        method="euler",
    )
    k = Param(work.k, t=SoftplusT(0.0))
    model = brainloom.Network(node, work.weights, coupled_var="S", port="excitatory_gating", k=k)
    names = {"flow_gamma": "gamma", "transit": "tau", "v0": "V0"}
    known = ("kappa", "flow_gamma", "transit", "alpha", "rho", "v0", "k1", "k2", "k3")
    vessels = {names.get(name, name): getattr(work, name) for name in known}
    observer = brainloom.BOLD(work.keep * work.dt * u.second, "S", dt=work.sub * work.dt, **vessels)

    def run(model: Any, noise: str = "gaussian") -> jax.Array:
        simulator = brainloom.Simulator(model, dt=work.dt * u.second)
        duration = work.n_steps * work.dt * u.second
        options = {"noise": noise, "key": jax.random.key(0), "monitors": []}
        return simulator.run(duration, observe=[observer], **options)["bold"]

    return model, run


def measure_bold(noise: str) -> dict[str, Any]:
    """W4b through `Fitter`, its C adjoint, the same by `jax.value_and_grad`, and the best raw JAX loop; one process."""
    import jax.numpy as jnp
    import limits
    import ours
    import raw_bold
    import works
    from fc import fc_loss

    from brainloom import Fitter

    work = works.w4b()
    target = jnp.asarray(work.target, jnp.float32)
    model, run = bold_model(work)
    loss_fn = lambda model: fc_loss(run(model, noise), target)  # noqa: E731
    fitter = Fitter(model, loss_fn=loss_fn)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start_loss = float(fitter.fit(n_steps=1).history[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = {"c": limits, "api": ours, "raw": raw_bold}
    programs = {name: module.rww_gradient(work, noise=noise) for name, module in others.items()}
    for program in programs.values():
        program()
    taken: Times = {name: [] for name in ("fitter", *programs)}
    for _ in range(5):
        taken["fitter"].append(steps_of(lambda n: fitter.fit(n_steps=n), 3))
        for name, program in programs.items():
            taken[name].append(timed(program))
    found: dict[str, Any] = medians(taken)
    for name in ("fitter", "api", "raw"):
        for kind in ("wall", "cpu"):
            found[name][f"over_c_{kind}"] = found[name][f"{kind}_s"] / found["c"][f"{kind}_s"]
    return found | {
        "start_loss": start_loss,
        "peak_rss_mb": peak * 1024 / 1e6,
        "peak_rss_growth_mb": (peak - before) * 1024 / 1e6,
    }


def simulated(kind: str, n: int) -> tuple[Any, Callable[[Any], Any]]:
    """Model and loss of a simulated fit of `n` regions: FC after BOLD, of a Hopf network, or of a delayed one."""
    import jax
    import jax.numpy as jnp
    import works
    from brainstate.nn import Param, SigmoidT, SoftplusT
    from fc import fc_loss

    import brainloom

    if kind == "bold":
        work = works.w4b(n, n_samples=40)
        model, run = bold_model(work)
        target = jnp.asarray(work.target, jnp.float32)
        return model, lambda model: fc_loss(run(model), target)
    work = works.w4a(n)
    lag = {"distance": works.connectome(n).lengths, "speed": 5.0} if kind == "delays" else {}
    node = brainloom.HopfStep(
        n,
        a=Param(work.a, t=SigmoidT(-0.2, 0.1)),
        w=work.w,
        init_x=work.x0,
        noise_x=work.sigma,
        noise_y=work.sigma,
        method="euler",
    )
    k = Param(float(work.k), t=SoftplusT(0.0))
    weights = Param(work.weights, fit=True) if kind == "edges" else work.weights
    model = brainloom.Network(node, weights, coupling="diffusive", coupled_var=("x", "y"), k=k, **lag)
    target = jnp.asarray(work.target, jnp.float32)

    def loss(model: Any) -> jax.Array:
        run = brainloom.Simulator(model, dt=work.dt).run
        steps = work.n_steps // (4 if kind == "delays" else 1)
        found = run(steps * work.dt, monitors="x", sample_every=work.keep, key=jax.random.key(0))
        return fc_loss(found["x"], target)

    return model, loss


def network_moments(n: int) -> tuple[Any, Callable[[Any], Any]]:
    """A reduced Wong-Wang network and the loss of its FC by the exact covariance around its fixed point."""
    import jax.numpy as jnp
    import works
    from brainstate.nn import Param, SigmoidT, SoftplusT

    import brainloom
    from brainloom.linear.equilibrium import fixed_point
    from brainloom.linear.measured import stationary_covariance
    from brainloom.models.lowering import all_values

    work = works.w4b(n)
    w, k = Param(work.w, t=SigmoidT(0.0, 1.5)), Param(work.k, t=SoftplusT(0.0))
    node = brainloom.ReducedWongWangStep(n, w=w, init_S=work.start, noise_S=0.01)
    model = brainloom.Network(node, work.weights, coupled_var="S", port="excitatory_gating", k=k)
    target = jnp.asarray(work.target)

    def loss(model: Any) -> Any:
        structure, values = model.structure(node.method, node.DT), all_values(model)
        state = fixed_point(structure, values, node.initial_values())[0]
        c = stationary_covariance(structure, values, state, ("S",))
        size = jnp.sqrt(jnp.diagonal(c))
        off = (c / size / size[:, None] - target) * (1.0 - jnp.eye(n))
        return jnp.sum(off * off) / (n * (n - 1))

    return model, loss


def measure_starts(name: str) -> dict[str, Any]:
    """A step of a fit from eight starts, and eight steps of a fit from one; the fits take turns."""
    import jax

    from brainloom import Fitter

    kind, n = name.split()
    model, loss_fn = network_moments(int(n)) if kind == "moments" else simulated(kind, int(n))
    fitter = Fitter(model, "adam", loss_fn=loss_fn)
    fits = {
        "batch": lambda n: fitter.fit(n_steps=n, n_starts=N_STARTS, spread=0.1, key=jax.random.key(1)),
        "single": lambda n: fitter.fit(n_steps=n, key=jax.random.key(1)),
    }
    more = 50 if kind == "moments" else 3
    for fit in fits.values():
        fit(1)
    taken: Times = {name: [] for name in fits}
    for _ in range(5):
        for label, fit in fits.items():
            taken[label].append(steps_of(fit, more * (1 if label == "batch" else 2)))
    found: dict[str, Any] = medians(taken)
    for which in ("wall_s", "cpu_s"):
        found[f"faster_{which[:-2]}"] = N_STARTS * found["single"][which] / found["batch"][which]
    return found


def measure_moments(name: str) -> dict[str, Any]:
    """One value and gradient of FC from exact moments, and a fit of one subject by L-BFGS; float64."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import works
    from brainstate.nn import Module, Param, SoftplusT

    from brainloom import Fitter
    from brainloom.fit.trainable import Trainable
    from brainloom.linear.rotating import resolvent_covariance
    from brainloom.linear.symmetric import LyapunovKernel, spectral_covariance

    kind, n = name.split()[0], int(name.split()[1])
    if kind == "any":
        model, loss_fn = network_moments(n)
    else:
        weights = works.connectome(n).weights
        weights = jnp.asarray(0.5 * (weights + weights.T))
        omega = 2 * np.pi * 0.05 * (1.0 + 0.1 * np.random.default_rng(0).normal(size=n))
        bins = jnp.asarray(np.linspace(0.01, 0.1, 64))

        class Moments(Module):
            """Rates and noise of every region, coupling: 2 n + 1 parameters."""

            def __init__(self) -> None:
                super().__init__()
                self.rate = Param(np.full(n, 0.3), t=SoftplusT(0.01), fit=True)
                self.noise = Param(np.ones(n), t=SoftplusT(0.0), fit=True)
                self.k = Param(0.5, t=SoftplusT(0.0), fit=True)

            def covariance(self) -> jax.Array:
                w = self.k.value() * weights
                local = self.rate.value() + jnp.sum(w, axis=1)
                if kind == "linear":
                    return spectral_covariance(
                        w - jnp.diag(local), jnp.diag(self.noise.value() ** 2), LyapunovKernel()
                    )
                jacobian = w - jnp.diag(local - 1j * omega)
                return resolvent_covariance(
                    jacobian, jnp.diag(self.noise.value() ** 2), bins, jnp.ones(len(bins))
                )

        model = Moments()

        def correlations(model: Any) -> jax.Array:
            c = jnp.real(model.covariance())
            size = jnp.sqrt(jnp.diagonal(c))
            return c / size / size[:, None]

        rng = np.random.default_rng(1)
        target = Moments()
        target.rate = Param(0.3 * np.exp(0.3 * rng.normal(size=n)))
        target.noise = Param(np.exp(0.3 * rng.normal(size=n)))
        wanted = correlations(target)

        def loss_fn(model: Any) -> jax.Array:
            return jnp.sum((correlations(model) - wanted) ** 2) / (n * (n - 1))

    fitter = Fitter(model, "adam", loss_fn=loss_fn)
    fitter.fit(n_steps=1)
    steps = 100 if n < 100 else 10
    taken: Times = {
        "value_and_gradient": [steps_of(lambda k: fitter.fit(n_steps=k), steps) for _ in range(5)]
    }
    found: dict[str, Any] = medians(taken)
    if kind == "any":
        return found
    lbfgs = Fitter(Moments(), "lbfgs", loss_fn=loss_fn)
    start = [jnp.array(x) for x in Trainable(lbfgs.model).leaves()]
    lbfgs.fit(n_steps=1)  # compiles
    Trainable(lbfgs.model).write(start)
    begun = clock()
    fit = lbfgs.fit(n_steps=60)
    now = clock()
    found["fit"] = {"wall_s": now[0] - begun[0], "cpu_s": now[1] - begun[1], "steps": fit.n_steps}
    found["fit"] |= {"evaluations": fit.n_evaluations, "loss": [float(fit.history[0]), float(fit.best_loss)]}
    return found


def main() -> None:
    """Measure in fresh processes and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        part, case = arguments.case
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        configure(threads=1, precision="float64" if part == "moments" or "moments" in case else "float32")
        import brainloom.models  # noqa: F401  (brainstate would reset the precision)

        load = os.getloadavg()[0]
        found = {"bold": measure_bold, "starts": measure_starts, "moments": measure_moments}[part](case)
        print(json.dumps(found | {"load": round(load, 1)}))
        return
    from _machine import machine

    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    kept["machine"] = machine()
    for part in arguments.only:
        for case in PARTS[part]:
            command = [sys.executable, __file__, "--case", part, case]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            kept.setdefault(part, {})[case] = json.loads(done.stdout.splitlines()[-1])
            print(part, case, done.stdout.splitlines()[-1], flush=True)
            RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
