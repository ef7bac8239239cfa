"""Simulation of several modalities: measurement noise, time steps that meet all recordings, what is stored."""

import numpy as np
import pytest
import xarray as xr

import brainloom.models  # noqa: F401  before brainstate, which resets the precision
from brainloom.fit.realise_spectral import _plan, common_step, measurement_noise, stored_size
from brainloom.models import JansenRitStep, get_model
from brainloom.network import Network

SENSORS = ["C3", "C4", "Cz", "Pz"]


def signal(reference: str = "average") -> xr.Dataset:
    return xr.Dataset(
        {
            "n_frames": ("split", [300, 300]),
            "eeg_duration": ("split", [30.0, 30.0]),
            "eeg_lead_field": (("eeg_sensor", "region"), np.ones((4, 3))),
        },
        coords={"split": ["train", "test"], "region": list("abc"), "eeg_sensor": SENSORS},
        attrs={
            "repetition_time": 2.0,
            "eeg_sampling_frequency": 250.0,
            "eeg_reference": reference,
            "eeg_unit": "V",
        },
    )


def fit(**values: float) -> xr.Dataset:
    rows = np.array(list(values.values()))[None, None, :, None] * np.ones(3)
    return xr.Dataset(
        {
            "estimate": (("predictor", "start", "parameter", "region"), rows),
            "best_start": ("predictor", [0]),
        },
        coords={"predictor": ["model"], "parameter": list(values)},
    )


def test_sensor_noise_is_seen_in_the_reference_of_the_recording():
    """White noise of 2 uV at every electrode; the average reference leaves its projection."""
    root = measurement_noise("eeg", signal(), fit(sensor_noise=2e-6))
    centre = np.eye(4) - 0.25
    np.testing.assert_allclose(root @ root.T, 4e-12 * centre, atol=1e-24)
    as_recorded = measurement_noise("eeg", signal("left mastoid"), fit(sensor_noise=2e-6))
    np.testing.assert_allclose(as_recorded, 2e-6 * np.eye(4))
    electrode = measurement_noise("eeg", signal("Cz"), fit(sensor_noise=1.0))
    np.testing.assert_allclose(np.diag(electrode @ electrode.T), [2, 2, 0, 2], atol=1e-12)


def test_each_modality_has_its_own_noise():
    both = fit(bold_noise=5e-4, sensor_noise_eeg=1e-6, sensor_noise_meg=1e-14)
    np.testing.assert_allclose(measurement_noise("bold", signal(), both), 5e-4 * np.eye(3))
    np.testing.assert_allclose(np.abs(measurement_noise("eeg", signal("none"), both)).max(), 1e-6)
    assert not measurement_noise("bold", signal(), fit(k=1.0)).any()


@pytest.mark.parametrize(
    ("intervals", "dt", "expected"),
    [
        ([2.0, 1 / 250], 1e-3, 1e-3),
        ([2.0, 1 / 250], 3e-3, 2e-3),
        ([0.72, 1 / 250], 1.5e-3, 4e-3 / 3),
        ([0.72], 0.1, 0.09),
        ([2.0, 1 / 512], 1e-3, 1 / 1024),
        ([0.72, 1 / 512], 1e-3, 1 / 12800),
    ],
)
def test_the_time_step_divides_every_interval(intervals, dt, expected):
    step = common_step(intervals, dt)
    assert step == pytest.approx(expected, rel=1e-12) and step <= dt * (1 + 1e-9)
    for one in intervals:
        assert one / step == pytest.approx(round(one / step), abs=1e-6)


def test_the_plan_takes_the_step_of_the_model_and_bounds_memory():
    settings = {"dt": None, "seeds": 64, "transient": 5.0}
    node = Network(JansenRitStep(3), np.ones((3, 3)), k=1.0, coupling="additive")
    plan = _plan("01", node, signal(), ["bold", "eeg"], settings)
    assert plan["dt"] == pytest.approx(1e-3)
    assert (plan["duration"], plan["transient"]) == (600.0, 6.0)  # whole frames
    assert plan["length"] == {"bold": 600.0, "eeg": 30.0}
    assert plan["chunk"] == 64  # 5 MB each, below 400 MB together
    alone = _plan("01", node, signal(), ["eeg"], settings | {"dt": 0.5e-3})
    assert alone["dt"] == pytest.approx(5e-4) and alone["duration"] == pytest.approx(30.0)
    slow = Network(get_model("HopfStep")(3), np.ones((3, 3)), k=1.0)
    assert _plan("01", slow, signal(), ["bold"], settings)["dt"] == pytest.approx(1e-4)  # 0.1 ms


def test_what_is_stored_is_bounded():
    assert stored_size((15000, 16), 8, 250.0, {"seeds": 2, "duration": 30.0}) == (2, 7500)
    assert stored_size((1500, 16), 1, 250.0, {"seeds": 2, "duration": 30.0}) == (1, 1500)
    kept, samples = stored_size((600000, 300), 8, 1000.0, {"seeds": 4, "duration": 600.0})
    assert kept == 4 and 4 * kept * samples * 300 <= 32e6 < 4 * kept * (samples + 1) * 300
    assert stored_size((1500, 16), 4, 250.0, {"seeds": 0, "duration": 30.0})[0] == 0
