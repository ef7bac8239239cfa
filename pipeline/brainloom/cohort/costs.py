"""Seconds, memory and disk of one job, scaled from a probe of the same study on the same machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brainloom.cohort.jobs import Job
from brainloom.cohort.layout import report_pages
from brainloom.cohort.pool_choices import FIRMER, MAP_STRENGTHS, SUBJECTS_A_DIRECTION, TEACHERS

# Typical steps of a search: so many, and so many more for each coordinate (fits of 82 to 322 coordinates to the demo
# and to HCP, 64 to 500 steps); of Fisher scoring, which knows the curvature, whatever the number of coordinates.
STEPS, STEPS_PER_COORDINATE, SCORING_STEPS = 15.0, 0.85, 30.0
# Evaluations of a generation of a population, and of an iteration of scipy, in steps of L-BFGS.
BACKENDS = {"lbfgs": 1.0, "adam": 0.7, "scipy": 1.0, "cmaes": 6.0, "nevergrad": 6.0}
# Fits in one batch begin near where they end: steps of a fit of `reliability` or `pool` in those of a fit by itself.
BATCHED = 0.4
# Compiling, relative to the fit: the first job of a rule pays it, later ones read the cache.
COMPILE = {"fit": 1.0, "reliability": 0.6, "identify": 0.28, "pool": 0.5}
CACHED = 0.12
# Of the datasets of connectome and signal of all subjects, what a rule of the cohort holds at once.
HELD = {"group": 1.2, "report": 0.6, "pool": 4.0}
# A gradient through a simulation, in simulations.
BACKWARD = 4.0
# Parts of a recording that `reliability` fits besides the controls.
PARTS = 5
# In starts of a light process (connectome_s) and in preprocessings of a recording (signal_s).
REPORT, REPORT_PAGE, REPORT_SUBJECT = 5.0, 1.25, 0.05
SCORE, SCORE_SEED = 1.5, 0.12
# Steps of a search fall with the penalty: so many times lambda / TYPICAL_LAMBDA to this power (54 steps at 0.01, 162 coordinates).
TYPICAL_LAMBDA, FIRMNESS = 1e-3, -0.45


def control_count(config: Mapping[str, Any], subjects: int) -> int:
    """Negative controls that are fitted for each subject."""
    controls = config["analyse"]["controls"]
    other = controls["other_subject"] and subjects > 1
    names = ("edge_shuffle", "distance_shuffle", "rewire", "uniform", "distance")
    return int(other) + sum(int(controls[name]) for name in names)


def typical_steps(config: Mapping[str, Any], coordinates: int) -> float:
    """Steps that a search of the analytic stage takes, of which `fit.max_steps` is the most."""
    fit = config["fit"]
    if fit["route"] == "spectrum":
        return min(fit["max_steps"], SCORING_STEPS)
    if fit["backend"] in ("lbfgs", "scipy"):
        return min(fit["max_steps"], STEPS + STEPS_PER_COORDINATE * coordinates)
    return float(fit["max_steps"])  # populations and Adam take all


def job_seconds(
    config: Mapping[str, Any], probe: Mapping[str, Any], job: Job, *, cohort: int, first: bool
) -> float:
    """
    Processor seconds of a job.

    Parameters
    ----------
    config : mapping
        Validated.
    probe : mapping
        From `brainloom.cohort.probe.run_probe`.
    job : Job
    cohort : int
        Subjects of the study.
    first : bool
        Whether it is the first of its rule, which compiles.
    """
    k, light, signal = job.subjects, probe["connectome_s"], probe["signal_s"]
    simple = {
        "fetch_hcp": 3.0 * light,
        "index_cohort": 0.3 * light + 0.03 * k * signal,
        "preprocess_connectome": light + 0.02 * k,
        "preprocess_signal": probe["signal_start_s"] + k * signal,
        "analyse": probe["signal_start_s"] + k * signal * (SCORE + SCORE_SEED * config["simulate"]["seeds"]),
        "group": 2.0 * light + 0.25 * k * signal,
        "report": light * (REPORT + REPORT_PAGE * report_pages(k) + REPORT_SUBJECT * k),
    }
    if job.rule in simple:
        return simple[job.rule]
    if job.rule == "simulate":
        compiled = probe["simulate_compile_s"]
        work = k * probe["simulate_s"] / probe["simulate_share"]
        return probe["import_s"] + compiled * (1.0 if first else CACHED) + work
    fits, step = config["fit"], probe["step_s"]
    search = typical_steps(config, probe["coordinates"]) * step
    controls = control_count(config, cohort)
    programs = 1.0
    if job.rule == "fit":
        if fits["route"] == "fc":
            firm = (
                max(fits["lambda"] / TYPICAL_LAMBDA, 1.0) ** FIRMNESS if fits["backend"] == "lbfgs" else 1.0
            )
            search *= BACKENDS[fits["backend"]] * firm
        each = (fits["starts"] + controls * fits["control_starts"]) * search
        each += (1 + controls) * probe["describe_s"]
        work = k * (each + _stages_s(config, probe, controls))
    elif job.rule == "reliability":
        share = _share_of_fields(config)
        work = k * len(config["reliability"]["lambda"]) * (PARTS + controls) * search * BATCHED * share
    elif job.rule == "identify":
        work = k * (0.04 * probe["import_s"] + 0.7 * probe["coordinates"] * probe["step_s"])
    else:
        pool = config["pool"]
        programs = float(len(pool["rank"]))
        folds = min(pool["folds"], k)
        groups = folds * (len(pool["rank"]) + 1)
        learned = int(pool["learn_shrinkage"])
        members = k * (len(pool["rank"]) * len(pool["lambda"]) + learned + 1)
        others = k - -(-k // folds)
        tried = [number for number in pool["directions"] if others >= SUBJECTS_A_DIRECTION * number]
        members += k * len(tried) * 2 * len(FIRMER) + (2 * folds * min(others, TEACHERS) if tried else 0)
        if pool["maps"] is not None:
            members += k * len(MAP_STRENGTHS)
            groups += folds * (len(MAP_STRENGTHS) + 1)
        work = (groups + members) * search * BATCHED
    compiled = COMPILE[job.rule] * programs * probe["fit_compile_s"]
    return probe["import_s"] + compiled * (1.0 if first else CACHED) + work


def job_memory(probe: Mapping[str, Any], job: Job) -> float:
    """Peak memory of a job in MB, of the process that the probe measured and what many subjects add."""
    data = (probe["connectome_bytes"] + probe["signal_bytes"]) / 1e6
    inside = {"fit": "fit_mb", "identify": "fit_mb", "reliability": "fit_mb", "pool": "fit_mb"}
    inside |= {"simulate": "simulate_mb", "preprocess_connectome": "connectome_mb"}
    peak = float(probe[inside.get(job.rule, "signal_mb")])
    peak += HELD.get(job.rule, 0.0) * job.subjects * data
    return peak * (1.3 if job.rule == "report" else 1.0)


def job_disk(config: Mapping[str, Any], probe: Mapping[str, Any], job: Job, cohort: int) -> float:
    """Datasets of a job in MB."""
    k, pairs = job.subjects, probe["regions"] ** 2 * 8 / 1e6
    controls, packed = control_count(config, cohort), 0.9  # of floating-point numbers little can be saved
    each = {
        "preprocess_connectome": probe["connectome_bytes"] / 1e6,
        "preprocess_signal": probe["signal_bytes"] / 1e6,
        "fit": probe["fit_bytes"] / 1e6 * (1 + controls) * 0.85,
        "identify": packed * probe["coordinates"] ** 2 * 8 / 1e6 + 0.02,
        "simulate": probe["simulation_bytes"] / 1e6 * _simulated_size(config, probe),
        "analyse": 0.015,
        "pool": packed * pairs + 0.02,
        "group": packed * pairs,
        "report": 0.35 * report_pages(k) / max(k, 1) + 0.003,
    }
    if job.rule == "reliability":
        strengths = len(config["reliability"]["lambda"])
        floats = strengths * (
            probe["regions"] ** 2 * 4 + PARTS * probe["coordinates"] * 8 * _share_of_fields(config)
        )
        return k * (packed * floats / 1e6 + 0.02)
    return k * each.get(job.rule, 0.0)


def _stages_s(config: Mapping[str, Any], probe: Mapping[str, Any], controls: int) -> float:
    """Seconds of the simulation stages of a subject."""
    levels = len(config["simulate"]["noise_levels"])
    one = probe["simulate_s"] / probe["simulate_share"] / levels / max(config["simulate"]["seeds"], 1)
    total = 0.0
    for stage in config["fit"]["stages"]:
        if stage == "analytic":
            continue
        given = {} if isinstance(stage, str) else stage
        runs = given.get("realisations", 4) * given.get("steps", 100)
        runs *= BACKWARD if given.get("backend", "grad") == "grad" else given.get("population") or 8
        total += one * runs * (1 + (controls if given.get("controls", False) else 0))
    return total


def _share_of_fields(config: Mapping[str, Any]) -> float:
    """Regional fields of the model for interpretation among those of the fit."""
    own, fewer = config["fit"]["regional"], config["reliability"]["regional"]
    return 1.0 if fewer is None or not own else min(1.0, len(fewer) / len(own))


def _simulated_size(config: Mapping[str, Any], probe: Mapping[str, Any]) -> float:
    """How much larger the dataset of a simulation is than that of the probe, by the shapes of its variables."""
    seeds, n = config["simulate"]["seeds"], probe["regions"]
    if not seeds:
        return 0.0
    if config["fit"]["route"] == "spectrum":
        return float(seeds)  # at most: few series are stored
    signal = config["signal"]

    def size(seconds: float, levels: int) -> float:
        windows = max(0.0, (seconds - signal["fcd_window"]) / signal["fcd_step"])
        series = 4 * n * seconds / probe["repetition_time"] + 4 * windows**2
        return seeds * (series + 8 * n * (2 * n + signal["psd_window"] / 2)) + levels * 8 * n**2

    return size(probe["test_s"], len(config["simulate"]["noise_levels"])) / size(probe["segment_s"], 1)
