"""What is written for other programs comes back from our readers and from MNE, whole or not at all."""

import json

import brainunit as u
import mne
import numpy as np
import pytest

from brainloom.core.errors import DataError
from brainloom.io.bids import read_repetition_time, read_timeseries, subject_files
from brainloom.io.recording_files import recording_files, source_series_files
from brainloom.io.recordings import read_recording, read_source_series
from brainloom.io.simulated import write_bids_derivative, write_bids_recording, write_raw_fif

REGIONS = ["L.front", "R.front", "L.back"]
SENSORS = ["Fp1", "Cz", "O2"]


def series(n=200, seed=60):
    return np.random.default_rng(seed).normal(size=(n, 3))


def volts(n=1000, seed=61):
    return 1e-5 * np.random.default_rng(seed).normal(size=(n, 3))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- regional signals


def test_bold_is_read_by_our_own_reader(tmp_path):
    x = series()
    table = write_bids_derivative(tmp_path, "sub-01", x, REGIONS, 0.72, atlas="toy", meta={"Seed": 7})
    assert files(tmp_path) == [
        "dataset_description.json",
        "sub-01/func/sub-01_task-sim_run-1_atlas-toy_timeseries.json",
        "sub-01/func/sub-01_task-sim_run-1_atlas-toy_timeseries.tsv",
    ]
    assert subject_files(tmp_path, "01", "toy", "sim")["bold"] == [table]
    data, labels = read_timeseries(table, REGIONS[::-1])
    np.testing.assert_allclose(data, x[:, ::-1], rtol=5.1e-8)  # eight digits
    assert labels == REGIONS[::-1]
    assert read_repetition_time(tmp_path, table) == 0.72
    sidecar = json.loads(table.with_suffix(".json").read_text())
    assert sidecar == {"RepetitionTime": 0.72, "Units": "arbitrary", "Simulated": True, "Seed": 7}
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["GeneratedBy"][0]["Name"]) == ("derivative", "brainloom")


def test_sources_and_quantities(tmp_path):
    x = series()
    table = write_bids_derivative(
        tmp_path, "01", x * u.mV, REGIONS, 4 * u.ms, atlas="toy", kind="meg", session="b", run=2
    )
    assert table.name == "sub-01_ses-b_task-sim_run-2_atlas-toy_timeseries.tsv"
    assert source_series_files(tmp_path, "01", "sim", "meg", atlas="toy") == [table]
    found = read_source_series(table)
    np.testing.assert_allclose(found.data, x, rtol=5.1e-8)
    assert (found.sampling_frequency, found.unit) == (250.0, "mV")


def test_the_same_signals_are_the_same_bytes_and_a_description_is_kept(tmp_path):
    (tmp_path / "dataset_description.json").write_text('{"Name": "mine"}')
    tables = [write_bids_derivative(tmp_path, s, series(), REGIONS, 2.0, atlas="toy") for s in ("01", "02")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    recordings = [write_bids_recording(tmp_path, s, volts(), 250.0, SENSORS) for s in ("01", "02")]
    assert recordings[0].read_bytes() == recordings[1].read_bytes()
    assert (tmp_path / "dataset_description.json").read_text() == '{"Name": "mine"}'


# ---------------------------------------------------------------- sensor signals


@pytest.mark.parametrize("double", [False, True])
def test_fif_comes_back_from_mne(tmp_path, double):
    """To the 24 bits of single precision, or exactly."""
    x = volts()
    path = write_raw_fif(tmp_path / "sim_eeg.fif", x, 250.0, SENSORS, positions="colin27_1005", double=double)
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error")
    np.testing.assert_allclose(raw.get_data().T, x, rtol=0 if double else 6e-8, atol=0)
    assert raw.ch_names == SENSORS and raw.info["sfreq"] == 250.0
    own = mne.channels.make_standard_montage("colin27_1005")
    expected = mne.create_info(SENSORS, 250.0, "eeg").set_montage(own)
    for one, other in zip(raw.info["chs"], expected["chs"], strict=True):
        np.testing.assert_allclose(one["loc"][:3], other["loc"][:3], atol=1e-7)
    assert not raw.info["custom_ref_applied"]


def test_positions_as_array_and_mapping(tmp_path):
    place = np.array([[0.03, 0.11, 0.03], [0.0, 0.0, 0.13], [0.03, -0.1, 0.04]])
    for positions in (place, dict(zip(SENSORS, place, strict=True))):
        path = write_raw_fif(tmp_path / "sim_eeg.fif", volts(), 250.0, SENSORS, positions=positions)
        raw = mne.io.read_raw_fif(path, verbose="error")
        np.testing.assert_allclose([ch["loc"][:3] for ch in raw.info["chs"]], place, atol=1e-7)


def test_meg_keeps_the_coils_of_its_info(tmp_path):
    """Sensors of a real helmet, in another order: coils and transform of the device come back."""
    info = mne.channels.montage.read_meg_canonical_info("neuromag")
    names = [info.ch_names[5], info.ch_names[0], info.ch_names[2]]
    x = 1e-13 * series()
    path = write_raw_fif(tmp_path / "sim_meg.fif", x, 500.0, names, "meg", info)
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error")
    np.testing.assert_allclose(raw.get_data().T, x, rtol=2e-7)
    for one, name in zip(raw.info["chs"], names, strict=True):
        other = info["chs"][info.ch_names.index(name)]
        np.testing.assert_allclose(one["loc"], other["loc"], atol=1e-7)
        assert one["coil_type"] == other["coil_type"]
    assert raw.get_channel_types() == [info.get_channel_types([name])[0] for name in names]
    np.testing.assert_allclose(raw.info["dev_head_t"]["trans"], info["dev_head_t"]["trans"], atol=1e-7)


def test_a_cohort_of_simulated_recordings_is_read_like_a_measured_one(tmp_path):
    x = volts()
    x -= x.mean(axis=1, keepdims=True)
    path = write_bids_recording(
        tmp_path, "01", 1e6 * x * u.uvolt, 250 * u.Hz, SENSORS, positions="colin27_1005", reference="average"
    )
    assert recording_files(tmp_path, "01", "sim") == [path]
    assert path.name == "sub-01_task-sim_run-1_eeg.fif"
    found = read_recording(path, reference="average")
    np.testing.assert_allclose(found.data, x, rtol=2e-7, atol=1e-15)
    assert found.reference == "average" and np.isfinite(found.info["chs"][0]["loc"][:3]).all()
    assert mne.io.read_raw_fif(path, verbose="error").info["custom_ref_applied"]
    side = json.loads(path.with_suffix(".json").read_text())
    assert (side["EEGReference"], side["SamplingFrequency"], side["TaskName"]) == ("average", 250.0, "sim")
    meg = write_bids_recording(tmp_path, "01", 1e-8 * x, 250.0, SENSORS, kind="meg", session="b")
    assert meg.relative_to(tmp_path).as_posix() == "sub-01/ses-b/meg/sub-01_ses-b_task-sim_run-1_meg.fif"
    assert read_recording(meg, "meg").kinds == ["mag"] * 3


# ---------------------------------------------------------------- whole or not at all


def test_a_fault_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_raw_fif(tmp_path / "sim_eeg.fif", volts(), 250.0, SENSORS)
    before = path.read_bytes()

    def stop(self, fname, **options):
        fname.write_bytes(b"half of")
        raise OSError("no space left on device")

    monkeypatch.setattr(mne.io.RawArray, "save", stop)
    with pytest.raises(OSError, match="no space left"):
        write_raw_fif(path, volts(seed=5), 250.0, SENSORS)
    assert path.read_bytes() == before
    with pytest.raises(OSError, match="no space left"):
        write_bids_recording(tmp_path / "b", "01", volts(), 250.0, SENSORS)
    assert files(tmp_path) == ["b/dataset_description.json", "sim_eeg.fif"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_is_replaced(tmp_path):
    path = write_raw_fif(tmp_path / "sim_eeg.fif", volts(), 250.0, SENSORS)
    write_raw_fif(path, volts(500), 250.0, SENSORS)
    assert mne.io.read_raw_fif(path, verbose="error").n_times == 500
    assert files(tmp_path) == ["sim_eeg.fif"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": np.zeros((5, 2))}, r"shape \(5, 2\) for 3 labels"),
        ({"data": np.zeros((0, 3))}, "at least one sample"),
        ({"data": np.array([[0, 0, 0], [0, np.nan, 0]])}, "not numbers from sample 1 on"),
        ({"sampling_frequency": 0.0}, "sampling_frequency is 0 Hz"),
        ({"sensors": ["A", "B", "A"]}, "sensor 'A' is named twice"),
        ({"kind": "nirs"}, "kind of sensor is 'nirs'"),
        ({"kind": ["eeg", "mag"]}, "2 kinds are given for 3 sensors"),
        ({"positions": np.ones((2, 3))}, r"positions are of shape \(2, 3\)"),
        ({"positions": 90 * np.ones((3, 3))}, "are they in mm"),
        ({"positions": {"Fp1": [0, 0, 0]}}, "sensor 'Cz' has no position"),
        ({"positions": "cap"}, "montage is 'cap'"),
        ({"positions": "colin27_1005", "sensors": ["Fp1", "Cz", "E9"]}, "'E9' is not in the montage"),
        ({"positions": mne.create_info(["Cz"], 1.0, "eeg")}, "'Fp1' is not in the info"),
        ({"path": "sim.fif"}, "the name must end with one of raw.fif"),
    ],
)
def test_what_cannot_be_written_says_so(tmp_path, change, sentence):
    given = {"path": "sim_eeg.fif", "data": volts(), "sampling_frequency": 250.0, "sensors": SENSORS} | change
    with pytest.raises(DataError, match=sentence):
        write_raw_fif(tmp_path / given.pop("path"), **given)
    assert files(tmp_path) == []


def test_regional_signals_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="kind of signal is 'pet'"):
        write_bids_derivative(tmp_path, "01", series(), REGIONS, 1.0, atlas="toy", kind="pet")
    with pytest.raises(DataError, match="sampling_interval is 0 s"):
        write_bids_derivative(tmp_path, "01", series(), REGIONS, 0.0, atlas="toy")
    with pytest.raises(DataError, match="for 2 labels"):
        write_bids_derivative(tmp_path, "01", series(), REGIONS[:2], 1.0, atlas="toy")
    with pytest.raises(DataError, match="must be eeg or meg"):
        write_bids_recording(tmp_path, "01", volts(), 250.0, SENSORS, kind="bold")
    assert files(tmp_path) == []
