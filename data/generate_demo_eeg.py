"""
Make the demo of BOLD and EEG: three simulated subjects with known parameters, stored as BIDS derivatives.

Run ``python data/generate_demo_eeg.py [FOLDER]`` (default: ``data/demo-eeg`` beside this file). Every subject has its
own connectome, coupling, inhibitory rate and conduction speed. One run of the nonlinear stochastic Jansen-Rit network
with conduction delays drives both recordings: ten minutes of Balloon BOLD, and the first minute of it as
EEG of 16 electrodes through a sphere lead field. True parameters go to ``truth.tsv``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from brainloom.core.runtime import configure

configure(threads=1, precision="float64")

import brainunit as u  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

from brainloom.core.keys import named_key  # noqa: E402
from brainloom.io import bids  # noqa: E402
from brainloom.io.lead_fields import LeadField, sphere_lead_field  # noqa: E402
from brainloom.linear.equilibrium import checked_fixed_point  # noqa: E402
from brainloom.models import JansenRitStep  # noqa: E402
from brainloom.network import Network  # noqa: E402
from brainloom.observe.bold import BOLD  # noqa: E402
from brainloom.observe.lead_field import EEGLeadFieldModel  # noqa: E402
from brainloom.simulate import Simulator  # noqa: E402

SEED = 2027
ATLAS, TASK = "demo20", "rest"
N_PAIRS = 10
TRANSIENT, DURATION, EEG_DURATION = 30.0, 600.0, 60.0
REPETITION_TIME, EEG_FREQUENCY, DT = 2.0, 250.0, 5e-4
ELECTRODES = [
    "Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "C3", "C4", "T8", "P7", "P3", "P4", "P8", "O1", "O2"
]  # fmt: skip
# Columns that are the same in all subjects. With fewer contacts C than the default and this input every network has one
# fixed point, a stable focus: alpha is a damped resonance, and fluctuations this small stay in its linear range.
COLUMN = {"C": 117.0, "p": 140.0}
NOISE = 25.0
# Global coupling, inhibitory rate (1/s), conduction speed (m/s).
TRUTH = {
    "01": {"k": 24.0, "b": 50.0, "speed": 6.0},
    "02": {"k": 18.0, "b": 48.0, "speed": 8.0},
    "03": {"k": 30.0, "b": 54.0, "speed": 5.0},
}
GAINS = {"bold_gain": 100.0, "bold_noise": 5e-4, "dipole_gain": 1600.0, "sensor_noise": 1e-6}
UNITS = {
    "k": "1",
    "b": "1/s",
    "speed": "m/s",
    "bold_gain": "1/(s*Hz)",
    "bold_noise": "1",
    "dipole_gain": "nA*m/mV",
    "sensor_noise": "V",
    "noise": "mV/s/sqrt(s)",
}
LOBES = ("Frontal", "Central", "Parietal", "Temporal", "Occipital")


def regions(rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Labels (left and right alternate), MNI coordinates in mm and the index of the mirror region."""
    places: list[np.ndarray] = []
    while len(places) < N_PAIRS:  # spread over the upper left part of an ellipsoid shell
        point = rng.normal(size=3)
        point /= np.linalg.norm(point)
        place = np.array([-abs(point[0]) * 46.0 - 8.0, point[1] * 68.0 - 18.0, point[2] * 44.0 + 22.0])
        if all(np.linalg.norm(place - other) > 28.0 for other in places):
            places.append(place)
    places.sort(key=lambda place: -place[1])  # front to back
    labels, coordinates = [], []
    for k, place in enumerate(places):
        lobe = LOBES[k * len(LOBES) // N_PAIRS]
        for side, sign in (("L", 1.0), ("R", -1.0)):
            labels.append(f"{lobe}_{k % 2 + 1}_{side}")
            coordinates.append(np.round(place * np.array([sign, 1.0, 1.0]), 1))
    return labels, np.array(coordinates), np.arange(2 * N_PAIRS) ^ 1


def connectome(
    rng: np.random.Generator, coordinates: np.ndarray, homotope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Streamline counts that decay with distance, with individual variation; tract lengths in mm."""
    n = len(coordinates)
    distance = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    shared = np.random.default_rng(SEED + 1)
    lengths = distance * (1.15 + 0.1 * shared.random((n, n)))
    weights = np.exp(-distance / 30.0) * np.exp(0.7 * shared.normal(size=(n, n)))
    across = np.sign(coordinates[:, None, 0]) != np.sign(coordinates[None, :, 0])
    weights *= np.where(across, 0.25, 1.0)
    weights[np.arange(n), homotope] += 0.15
    weights *= np.exp(0.3 * rng.normal(size=(n, n)))
    lengths *= np.exp(0.03 * rng.normal(size=(n, n)))
    upper = np.triu(np.ones((n, n), bool), 1)
    counts, lengths = (np.where(upper, x, 0.0) for x in (np.round(1e4 * weights), np.round(lengths, 2)))
    counts, lengths = counts + counts.T, lengths + lengths.T
    return counts, np.where(counts > 0, lengths, 0.0)


def network(counts: np.ndarray, lengths: np.ndarray, true: dict[str, float]) -> Network:
    """The network of a subject; weights have the mean strength 1."""
    node = JansenRitStep(len(counts), **COLUMN, b=true["b"], noise_y4=NOISE)
    weights = counts / counts.sum(axis=1).mean()
    return Network(node, weights, distance=lengths, speed=true["speed"], coupling="additive", k=true["k"])


def record(
    net: Network, true: dict[str, float], field: LeadField, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """
    BOLD (frame, region) relative to rest, and EEG (sample, electrode) in V.

    BOLD is driven by what the rates are above their resting values; EEG amplifiers remove the steady part.
    """
    values = net.parameter_values()
    structure = net.structure("stochastic_heun", DT)
    rest = checked_fixed_point(structure, values, net.node.initial_values())
    rate = net.node.observables()["bold"].function(values, rest)
    potential = net.node.observables()["eeg"].function(values, rest)
    bold = BOLD(REPETITION_TIME, bold_gain=true["bold_gain"], bold_baseline=np.asarray(rate))
    run = Simulator(net, DT, method="stochastic_heun").run(
        TRANSIENT + DURATION,
        key=jax.random.fold_in(key, 0),
        transient=TRANSIENT,
        sample_every=1.0 / EEG_FREQUENCY,
        monitors=["eeg"],
        observe=[bold],
        initial=rest,
        check=False,
    )
    measured = np.asarray(run["bold"])
    draws = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), measured.shape))
    sensors = EEGLeadFieldModel(
        L=field, dipole_gain=true["dipole_gain"], noise_sd=true["sensor_noise"] * u.volt
    )
    source = run["eeg"][: round(EEG_DURATION * EEG_FREQUENCY)] - np.asarray(potential) * u.mV
    seen = sensors(source, key=jax.random.fold_in(key, 2))
    return measured + true["bold_noise"] * draws, np.asarray(seen.to_decimal(u.volt))


def write_eeg(root: Path, subject: str, eeg: np.ndarray, field: LeadField) -> None:
    """BrainVision files with 16 bits a sample, and their BIDS sidecars."""
    import pybv

    folder, name = root / f"sub-{subject}" / "eeg", f"sub-{subject}_task-{TASK}"
    folder.mkdir(parents=True, exist_ok=True)
    pybv.write_brainvision(
        data=eeg.T,
        sfreq=EEG_FREQUENCY,
        ch_names=list(field.sensors),
        fname_base=f"{name}_eeg",
        folder_out=str(folder),
        overwrite=True,
        unit="µV",
        fmt="binary_int16",
        resolution=0.01,
        meas_date=None,
    )
    sidecar = {
        "TaskName": TASK,
        "SamplingFrequency": EEG_FREQUENCY,
        "PowerLineFrequency": "n/a",
        "EEGReference": "average",
        "SoftwareFilters": "n/a",
        "RecordingDuration": EEG_DURATION,
        "RecordingType": "continuous",
        "EEGChannelCount": len(field.sensors),
    }
    write_json(folder / f"{name}_eeg.json", sidecar)
    channels = [["name", "type", "units", "status"], *([one, "EEG", "µV", "good"] for one in field.sensors)]
    write_rows(folder / f"{name}_channels.tsv", channels)
    places = [
        [one, *(f"{x:.2f}" for x in at)]
        for one, at in zip(field.sensors, field.sensor_positions, strict=True)
    ]
    write_rows(folder / f"sub-{subject}_electrodes.tsv", [["name", "x", "y", "z"], *places])
    system = {
        "EEGCoordinateSystem": "CapTrak",
        "EEGCoordinateUnits": "mm",
        "EEGCoordinateSystemDescription": "RAS: origin between the ears, x to the right, y through the nasion",
    }
    write_json(folder / f"sub-{subject}_coordsystem.json", system)


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: list[list[str]]) -> None:
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")


def write_subject(root: Path, subject: str, atlas: tuple, field: LeadField) -> list[list[str]]:
    """Simulate and write one subject; its rows of the truth table."""
    labels, coordinates, homotope = atlas
    counts, lengths = connectome(np.random.default_rng([SEED, int(subject)]), coordinates, homotope)
    true = TRUTH[subject] | GAINS
    for measure, matrix, unit in (("weight", counts, "streamlines"), ("length", lengths, "mm")):
        path = bids.relmat_path(root, subject, atlas=ATLAS, measure=measure)
        bids.write_relmat(path, matrix, {"Unit": unit}, digits=6)
    bold, eeg = record(network(counts, lengths, true), true, field, named_key(SEED, subject))
    path = bids.timeseries_path(root, subject, task=TASK, atlas=ATLAS, run=1)
    # the last digit is 2 % of the measurement noise
    bids.write_timeseries(path, 1000.0 * (1.0 + bold), labels, REPETITION_TIME, digits=6)
    write_eeg(root, subject, eeg, field)
    print(
        f"sub-{subject}: BOLD {100 * bold.std():.2f} %, EEG {1e6 * eeg.std():.1f} uV, at most {1e6 * abs(eeg).max():.0f}",
        file=sys.stderr,
    )
    return [
        [subject, name, "global", f"{value:g}", UNITS[name]]
        for name, value in (true | {"noise": NOISE}).items()
    ]


def main(folder: str | None = None) -> None:
    """Write the whole cohort."""
    root = Path(folder) if folder else Path(__file__).parent / "demo-eeg"
    atlas = regions(np.random.default_rng(SEED))
    labels, coordinates, homotope = atlas
    bids.write_description(root, name="brainloom demo of BOLD and EEG (simulated)", License="CC0-1.0")
    bids.write_participants(root, list(TRUTH))
    bids.write_atlas(
        bids.atlas_path(root, ATLAS),
        labels,
        hemisphere=[label[-1] for label in labels],
        coordinates=coordinates,
        homotope=homotope,
        digits=4,
    )
    # fixed positions of the colin27 head, average reference
    field = sphere_lead_field(coordinates, montage=ELECTRODES, regions=labels)
    rows = [row for subject in TRUTH for row in write_subject(root, subject, atlas, field)]
    write_rows(root / "truth.tsv", [["subject", "parameter", "region", "value", "unit"], *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
