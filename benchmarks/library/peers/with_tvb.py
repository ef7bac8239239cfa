"""The works in The Virtual Brain (numpy)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import timing
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator


def _connectivity(weights: Any, lengths: Any, speed: float) -> Any:
    n = len(weights)
    return connectivity.Connectivity(
        weights=np.array(weights, dtype=float),
        tract_lengths=np.array(lengths, dtype=float),
        speed=np.array([speed]),
        centres=np.zeros((n, 3)),
        region_labels=np.array([str(i) for i in range(n)]),
    )


def _run(
    work: Any, model: Any, conn: Any, between: Any, scheme: Any, start: tuple[float, float]
) -> Callable[[], Any]:
    depth = int(np.ceil(conn.tract_lengths.max() / conn.speed[0] / work.dt)) + 2
    first = np.broadcast_to(np.array(start)[None, :, None, None], (depth, 2, work.n_regions, 1)).copy()
    made = simulator.Simulator(
        model=model,
        connectivity=conn,
        coupling=between,
        integrator=scheme,
        monitors=(monitors.SubSample(period=work.dt * work.keep),),
        initial_conditions=first,
        simulation_length=work.n_steps * work.dt,
    )

    def run() -> Any:
        made.configure()
        return made.run()

    return run


def hopf(work: Any) -> Callable[[], Any]:
    model = models.SupHopf(a=np.array(work.a), omega=np.array(work.w))
    scheme = integrators.EulerStochastic(dt=work.dt, noise=noise.Additive(nsig=np.array([work.sigma**2 / 2])))
    between = coupling.Difference(a=np.array([float(work.k)]))
    conn = _connectivity(work.weights, np.zeros_like(work.weights), 1.0)
    return _run(work, model, conn, between, scheme, (work.x0, work.y0))


def mpr(work: Any) -> Callable[[], Any]:
    one = np.array
    model = models.MontbrioPazoRoxin(
        tau=one([work.tau]),
        I=one([work.current]),
        Delta=one([work.delta]),
        J=one([work.j]),
        eta=one([work.eta]),
        cr=one([work.tau]),
        cv=one([0.0]),
    )
    between = coupling.Linear(a=one([work.k]), b=one([0.0]))
    conn = _connectivity(work.weights, work.lengths, work.speed)
    scheme = integrators.HeunDeterministic(dt=work.dt)
    return _run(work, model, conn, between, scheme, (work.r0, work.v0))


if __name__ == "__main__":
    exact = "SupHopf, Difference, EulerStochastic, SubSample monitor"
    delayed = "MontbrioPazoRoxin, Linear, HeunDeterministic; delays in whole steps, held over a step, both states delayed"
    timing.main(
        "tvb-library",
        {"W1": hopf, "W2": mpr, "W2-400": mpr, "W5": timing.one_after_another(hopf)},
        {"W1": exact, "W2": delayed, "W2-400": delayed, "W5": exact + "; one set after another"},
        {"W4a": "no gradients"},
    )
