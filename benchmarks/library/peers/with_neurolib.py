"""The works in neurolib (numba)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import timing
from neurolib.models.hopf import HopfModel


def hopf(work: Any) -> Callable[[], Any]:
    model = HopfModel(Cmat=np.array(work.weights), Dmat=np.zeros_like(work.weights))
    # one value of w and a for all regions; the frequencies differ by a few per cent in the other systems
    model.params.update(a=float(np.mean(work.a)), w=float(np.mean(work.w)), K_gl=float(work.k))
    model.params.update(
        dt=work.dt, duration=work.n_steps * work.dt, sampling_dt=work.dt * work.keep, signalV=0
    )
    model.params.update(sigma_ou=work.sigma, tau_ou=1.0)

    def run() -> Any:
        model.params["xs_init"] = np.full((work.n_regions, 1), work.x0)
        model.params["ys_init"] = np.full((work.n_regions, 1), work.y0)
        model.run()
        return model.x

    return run


if __name__ == "__main__":
    how = "HopfModel.run: Euler, no beta, one a and w for all regions; noise enters as an Ornstein-Uhlenbeck input"
    timing.main(
        "neurolib",
        {"W1": hopf, "W5": timing.one_after_another(hopf)},
        {"W1": how, "W5": how + "; one set after another"},
        {
            "W2": "no Montbrio-Pazo-Roxin model",
            "W2-400": "no Montbrio-Pazo-Roxin model",
            "W4a": "no gradients",
        },
    )
