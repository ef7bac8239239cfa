"""Recordings of every format come back as they were written, with what BIDS says; each fault has its sentence."""

import json
import subprocess
import sys

import mne
import numpy as np
import pytest

from brainloom.analysis.meeg import meeg_features
from brainloom.core.errors import DataError
from brainloom.io.recording_files import recording_files, source_series_files
from brainloom.io.recordings import read_recording, read_source_series

NAMES = ["Fp1", "Fp2", "Cz", "O1", "O2", "Pz"]
RATE = 250.0
# Largest error in V of each format at this signal: single precision of 60 uV, and the steps of 0.1 nV (BrainVision)
# and of the 16 and 24 bits over the range of each channel (EDF, BDF).
FORMATS = {"fif": 1e-11, "vhdr": 0.6e-10, "edf": 2.5e-9, "bdf": 1e-11, "set": 1e-11}


def signals(seconds=12.0, seed=50):
    """(time, sensor) in V: noise of 10 uV, an oscillation of 10 Hz, and 50 Hz from the mains."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    wave = 1e-5 * np.sin(2 * np.pi * 10 * t) + 5e-6 * np.sin(2 * np.pi * 50 * t)
    return 1e-5 * random.normal(size=(len(t), len(NAMES))) + wave[:, None]


def raw_of(x, names=NAMES, montage="colin27_1005"):
    info = mne.create_info(list(names), RATE, "eeg", verbose="error")
    if montage is not None:
        info.set_montage(montage)
    return mne.io.RawArray(x.T.copy(), info, verbose="error")


def write(folder, extension, x, *, run=1, names=NAMES, montage="colin27_1005"):
    folder.mkdir(parents=True, exist_ok=True)
    base = f"sub-01_task-rest_run-{run}_eeg"
    path = folder / f"{base}.{extension}"
    if extension == "fif":
        raw_of(x, names, montage).save(path, verbose="error", overwrite=True)
    elif extension == "vhdr":
        import pybv

        pybv.write_brainvision(
            data=x.T,
            sfreq=RATE,
            ch_names=list(names),
            fname_base=base,
            folder_out=folder,
            unit="µV",
            resolution=1e-4,
        )
    else:
        mne.export.export_raw(path, raw_of(x, names, montage), verbose="error")
    return path


@pytest.fixture
def cohort(tmp_path):
    """An empty BIDS dataset; the folder of the subject's EEG."""
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "sub-01" / "eeg").mkdir(parents=True)
    return tmp_path


def eeg_of(cohort):
    return cohort / "sub-01" / "eeg"


def put(path, content):
    path.write_text(json.dumps(content) if isinstance(content, dict) else content)
    return path


def channels_table(path, rows, header="name\ttype\tunits\tstatus"):
    return put(path, "\n".join([header, *("\t".join(row) for row in rows)]) + "\n")


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_comes_back(extension, cohort):
    x = signals()
    found = read_recording(write(eeg_of(cohort), extension, x))
    assert found.sensors == NAMES
    assert found.kinds == ["eeg"] * 6
    assert (found.sampling_frequency, found.unit, found.reference) == (RATE, "V", "as recorded")
    assert found.data.shape == x.shape and found.data.dtype == float
    np.testing.assert_allclose(found.data, x, atol=FORMATS[extension], rtol=0)
    place = np.array([ch["loc"][:3] for ch in found.info["chs"]])
    if extension in ("fif", "set"):  # the others hold no positions
        own = raw_of(x).get_montage().get_positions()["ch_pos"]
        np.testing.assert_allclose(
            place, [own[name] for name in NAMES], atol=2e-3 if extension == "set" else 1e-7
        )
    else:
        assert not np.isfinite(place).all()
    assert np.array_equal(found.segments()[0], found.data)


def test_a_recording_goes_into_the_features(cohort):
    found = read_recording(write(eeg_of(cohort), "edf", signals()), reference="average", line_noise=50)
    settings = {"band": [1, 40], "window": 2.0, "method": "welch", "envelope_band": [8, 13]}
    features = meeg_features(found.segments(2.0), found.sampling_frequency, settings)
    assert features["psd"].shape == (6, 79)


def test_meg_keeps_its_sensors_and_projections(tmp_path):
    random = np.random.default_rng(51)
    info = mne.create_info(
        ["MEG 0111", "MEG 0112", "EEG 001", "STI 014"], RATE, ["mag", "grad", "eeg", "stim"]
    )
    x = random.normal(size=(4, 1000)) * np.array([[1e-12], [1e-11], [1e-5], [1.0]])
    path = tmp_path / "sub-01_task-rest_meg.fif"
    mne.io.RawArray(x, info, verbose="error").save(path, verbose="error")
    found = read_recording(path, "meg", reference="average")
    assert (found.kinds, found.unit, found.reference) == (["mag", "grad"], "T", "none")
    np.testing.assert_allclose(found.data, x[:2].T, rtol=1e-6, atol=1e-18)
    assert read_recording(path, "meg", sensor_types=["mag"]).sensors == ["MEG 0111"]
    assert read_recording(path, "eeg").sensors == ["EEG 001"]
    with pytest.raises(
        DataError, match=r"no channel of type seeg or ecog or dbs in it, but eeg, grad, mag, stim"
    ):
        read_recording(path, "ieeg")


# ---------------------------------------------------------------- preparation


def test_reference(cohort):
    x = signals()
    path = write(eeg_of(cohort), "fif", x)
    average = read_recording(path, reference="average")
    np.testing.assert_allclose(average.data, x - x.mean(axis=1, keepdims=True), atol=1e-11)
    assert average.reference == "average"
    cz = read_recording(path, reference="Cz")
    np.testing.assert_allclose(cz.data, x - x[:, [2]], atol=1e-11)
    assert cz.reference == "Cz" and not cz.data[:, 2].any()
    with pytest.raises(DataError, match=r"reference is 'Oz', which is no electrode .* such as Fp1"):
        read_recording(path, reference="Oz")
    put(path.with_suffix(".json"), {"EEGReference": "FCz"})
    assert read_recording(path).reference == "FCz"
    np.testing.assert_allclose(read_recording(path, reference="FCz").data, x, atol=1e-11)


def test_an_average_reference_that_waits_is_not_applied_unasked(cohort):
    x = signals()
    raw = raw_of(x).set_eeg_reference("average", projection=True, verbose="error")
    path = eeg_of(cohort) / "sub-01_task-rest_eeg.fif"
    raw.save(path, verbose="error")
    np.testing.assert_allclose(read_recording(path).data, x, atol=1e-11)
    raw.apply_proj(verbose="error").save(path, overwrite=True, verbose="error")
    applied = read_recording(path)
    assert applied.reference == "average"
    np.testing.assert_allclose(applied.data.mean(axis=1), 0, atol=1e-11)


def test_line_noise_and_filters(cohort):
    """Away from its edges the notch takes the mains to below 5 % and leaves 10 Hz within 1 %; drifts are removed."""
    x = signals(30.0) + 1e-3
    path = write(eeg_of(cohort), "fif", x)
    t = np.arange(len(x)) / RATE

    def amplitude(data, frequency):
        middle = slice(2000, 5500)
        return 2 * np.abs(np.mean(data[middle].mean(axis=1) * np.exp(-2j * np.pi * frequency * t[middle])))

    before = read_recording(path).data
    put(path.with_suffix(".json"), {"PowerLineFrequency": 50})
    for line in (50.0, "sidecar"):
        after = read_recording(path, line_noise=line).data
        assert amplitude(after, 50) < 0.05 * amplitude(before, 50)
        assert amplitude(after, 10) == pytest.approx(amplitude(before, 10), rel=0.01)
    high = read_recording(path, high_pass=1.0, low_pass=30.0).data
    assert abs(high[2000:5500].mean()) < 1e-6
    assert amplitude(high, 10) == pytest.approx(amplitude(before, 10), rel=0.01)
    assert amplitude(high, 50) < 0.01 * amplitude(before, 50)


def test_resampling_makes_no_alias(cohort):
    """At 80 Hz the mains would appear at 30 Hz; the oscillation of 10 Hz keeps its amplitude within 1 %."""
    path = write(eeg_of(cohort), "fif", signals(16.0))
    found = read_recording(path, resample=80.0)
    assert found.sampling_frequency == 80.0 and len(found.data) == 1280
    spectrum = 2 * np.abs(np.fft.rfft(found.data.mean(axis=1)[40:1240])) / 1200
    frequency = np.fft.rfftfreq(1200, 1 / 80.0)
    assert spectrum[np.searchsorted(frequency, 10)] == pytest.approx(1e-5, rel=0.05)
    # averaged noise of 10/sqrt(6) uV leaves about 0.2 uV at a frequency
    assert spectrum[np.searchsorted(frequency, 30)] < 6e-7
    np.testing.assert_array_equal(found.spans, [[0, 1280]])


def test_bad_channels(cohort):
    x = signals()
    x[:, 3] += 1e-3
    path = write(eeg_of(cohort), "fif", x)
    channels_table(
        path.with_name("sub-01_task-rest_run-1_channels.tsv"),
        [(name, "EEG", "µV", "bad" if name == "O1" else "good") for name in NAMES],
    )
    dropped = read_recording(path, reference="average")
    assert dropped.sensors == [name for name in NAMES if name != "O1"] and dropped.bads == ["O1"]
    good = np.delete(x, 3, axis=1)
    np.testing.assert_allclose(dropped.data, good - good.mean(axis=1, keepdims=True), atol=1e-10)
    kept = read_recording(path, bads="keep")
    np.testing.assert_allclose(kept.data, x, atol=1e-10)
    mended = read_recording(path, bads="interpolate")
    assert mended.sensors == NAMES and mended.bads == ["O1"]
    assert abs(mended.data[:, 3].mean()) < 1e-4
    np.testing.assert_allclose(np.delete(mended.data, 3, axis=1), good, atol=1e-10)
    with pytest.raises(DataError, match="must be one of drop, interpolate, keep"):
        read_recording(path, bads="ignore")


@pytest.mark.parametrize("dated", [False, True])
def test_marked_stretches_are_left_out(cohort, dated):
    """Marks count from the first sample of the file whether or not it has a date; segments lie between them."""
    x = signals(12.0)
    raw = raw_of(x)
    if dated:
        raw.set_meas_date(1_600_000_000)
    raw.set_annotations(
        mne.Annotations(
            [3.0, 6.0, 8.0], [1.0, 0.0, 0.5], ["BAD blink", "boundary", "stimulus"], raw.info["meas_date"]
        )
    )
    path = eeg_of(cohort) / "sub-01_task-rest_eeg.fif"
    raw.crop(1.0).save(path, verbose="error")
    assert mne.io.read_raw(path, verbose="error").first_samp == 250
    found = read_recording(path)
    np.testing.assert_array_equal(found.spans, [[0, 500], [750, 1250], [1250, 2750]])
    assert [len(one) for one in found.segments()] == [500, 500, 1500]
    np.testing.assert_allclose(found.segments(3.0)[0], x[1500:], atol=1e-11)
    np.testing.assert_array_equal(
        read_recording(path, resample=125.0).spans, [[0, 250], [375, 625], [625, 1375]]
    )
    with pytest.raises(DataError, match="longest stretch without a bad mark lasts 6 s; at least 20 s"):
        found.segments(20.0)


# ---------------------------------------------------------------- BIDS


def test_types_and_units_of_the_channels_table(cohort):
    """EDF calls every channel EEG; the table says what they are."""
    path = write(eeg_of(cohort), "edf", signals())
    rows = [(name, "EEG", "µV", "good") for name in NAMES[:4]]
    rows += [("O2", "VEOG", "µV", "good"), ("Pz", "MISC", "n/a", "n/a")]
    channels_table(path.with_name("sub-01_task-rest_run-1_channels.tsv"), rows)
    assert read_recording(path).sensors == NAMES[:4]


def test_an_edf_file_without_units_takes_those_of_the_table(cohort):
    """Numbers in uV without a unit in the header; 16 bits over 200 uV are steps of 3 nV."""
    import edfio

    x = signals(4.0)
    path = eeg_of(cohort) / "sub-01_task-rest_run-1_eeg.edf"
    edfio.Edf(
        [
            edfio.EdfSignal(1e6 * x[:, k], RATE, label=name, physical_range=(-100, 100))
            for k, name in enumerate(NAMES)
        ]
    ).write(path)
    with pytest.raises(DataError, match=r"typical channel is 1[23]\.\d V"):
        read_recording(path)
    channels_table(eeg_of(cohort) / "sub-01_channels.tsv", [(name, "EEG", "uV", "good") for name in NAMES])
    np.testing.assert_allclose(read_recording(path).data, x, atol=2e-9)


def test_sidecars_are_inherited(cohort):
    """The nearest file wins; a file that names another task or run does not apply."""
    path = write(eeg_of(cohort), "fif", signals())
    put(cohort / "task-rest_eeg.json", {"EEGReference": "M1", "SamplingFrequency": RATE})
    put(cohort / "task-motor_eeg.json", {"SamplingFrequency": 100})
    channels_table(
        cohort / "sub-01" / "sub-01_task-rest_channels.tsv", [(n, "EEG", "V", "good") for n in NAMES]
    )
    channels_table(eeg_of(cohort) / "sub-01_task-rest_run-2_channels.tsv", [("X", "EEG", "V", "good")])
    assert read_recording(path).reference == "M1"
    put(eeg_of(cohort) / "sub-01_task-rest_eeg.json", {"EEGReference": "Cz"})
    assert read_recording(path).reference == "Cz"
    assert read_recording(path, root=eeg_of(cohort)).reference == "Cz"


ELECTRODES = "name\tx\ty\tz\n" + "".join(
    f"{name}\t{x}\t{y}\t{z}\n"
    for name, (x, y, z) in zip(NAMES, np.arange(18).reshape(6, 3) * 5 - 40, strict=True)
)
PLACES = np.arange(18).reshape(6, 3) * 5e-3 - 40e-3


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ({"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "mm"}, PLACES),
        ({"EEGCoordinateSystem": "CTF", "EEGCoordinateUnits": "mm"}, PLACES[:, [1, 0, 2]] * [-1, 1, 1]),
        (
            {
                "EEGCoordinateSystem": "Other",
                "EEGCoordinateUnits": "mm",
                "AnatomicalLandmarkCoordinates": {
                    "NAS": [10, 110, 7],
                    "LPA": [-70, 10, 7],
                    "RPA": [90, 10, 7],
                },
                "AnatomicalLandmarkCoordinateUnits": "mm",
            },
            PLACES - [0.01, 0.01, 0.007],
        ),
    ],
)
def test_positions_of_electrodes(cohort, system, expected):
    """Head coordinates as they are, those of CTF turned, others through nasion and ears (here a shift)."""
    path = write(eeg_of(cohort), "fif", signals())
    put(eeg_of(cohort) / "sub-01_space-x_electrodes.tsv", ELECTRODES)
    put(eeg_of(cohort) / "sub-01_space-x_coordsystem.json", system)
    place = np.array([ch["loc"][:3] for ch in read_recording(path).info["chs"]])
    np.testing.assert_allclose(place, expected, atol=1e-9)


def test_positions_in_a_template_go_to_the_head(cohort):
    """The vertex of the template is above the centre of the head; both frames have x to the right."""
    path = write(eeg_of(cohort), "vhdr", signals())
    table = "name\tx\ty\tz\n" + "".join(
        f"{name}\t{10 * k}\t0\t80\n" if name != "Pz" else "Pz\tn/a\tn/a\tn/a\n"
        for k, name in enumerate(NAMES)
    )
    put(eeg_of(cohort) / "sub-01_electrodes.tsv", table)
    put(cohort / "sub-01_coordsystem.json", {"EEGCoordinateSystem": "MNI152Lin", "EEGCoordinateUnits": "mm"})
    place = np.array([ch["loc"][:3] for ch in read_recording(path).info["chs"]])
    assert np.isnan(place[5]).all()
    np.testing.assert_allclose(np.linalg.norm(np.diff(place[:5], axis=0), axis=1), 0.01, atol=1e-6)
    assert (np.diff(place[:5, 0]) > 0.0095).all()
    assert 0.06 < place[0, 2] < 0.14


def test_positions_that_nobody_can_place_are_not_used(cohort):
    path = write(eeg_of(cohort), "vhdr", signals())
    put(eeg_of(cohort) / "sub-01_electrodes.tsv", ELECTRODES)
    put(
        eeg_of(cohort) / "sub-01_coordsystem.json",
        {"EEGCoordinateSystem": "Other", "EEGCoordinateUnits": "m"},
    )
    with pytest.warns(UserWarning, match="nasion, LPA and RPA are not given"):
        found = read_recording(path)
    assert not np.isfinite(found.info["chs"][0]["loc"][:3]).any()


def test_a_standard_montage_only_where_there_are_no_positions(cohort):
    path = write(eeg_of(cohort), "vhdr", signals())
    own = raw_of(signals()).get_montage().get_positions()["ch_pos"]
    place = [ch["loc"][:3] for ch in read_recording(path, montage="colin27_1005").info["chs"]]
    np.testing.assert_allclose(place, [own[name] for name in NAMES], atol=1e-9)
    recorded = write(eeg_of(cohort), "fif", signals(), run=2)
    place = [ch["loc"][:3] for ch in read_recording(recorded, montage="biosemi64").info["chs"]]
    np.testing.assert_allclose(place, [own[name] for name in NAMES], atol=1e-7)
    odd = write(eeg_of(cohort), "vhdr", signals(), run=3, names=[*NAMES[:5], "E99"])
    with pytest.raises(DataError, match="'E99' is not in the montage colin27_1005"):
        read_recording(odd, montage="colin27_1005")
    with pytest.raises(DataError, match="montage is 'cap', which MNE does not have"):
        read_recording(path, montage="cap")
    with pytest.raises(DataError, match="cannot be interpolated without positions"):
        channels_table(
            eeg_of(cohort) / "sub-01_channels.tsv",
            [(n, "EEG", "V", "bad" if n == "Cz" else "good") for n in NAMES],
        )
        read_recording(path, bads="interpolate")


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("sub-01_eeg.json", {"SamplingFrequency": 500}, r"SamplingFrequency is 500 Hz but .*fif has 250 Hz"),
        (
            "sub-01_eeg.json",
            {"SamplingFrequency": "fast"},
            "SamplingFrequency is 'fast'; it must be a positive number",
        ),
        ("sub-01_channels.tsv", "name\ttype\nT7\tEEG\n", "channel 'T7' is not in .*fif; use the names"),
        ("sub-01_channels.tsv", "name\ttype\nFp1\tEEG\n", r"lacks channel 'Fp2' of .*fif"),
        ("sub-01_channels.tsv", "label\ttype\nFp1\tEEG\n", "must have a column named name"),
        ("sub-01_channels.tsv", "name\nFp1\nFp1\n", r"channel Fp1 is listed twice \(line 3\)"),
        (
            "sub-01_channels.tsv",
            "name\tstatus\nFp1\tnoisy\n",
            "status of Fp1 is 'noisy'; it must be good, bad or n/a",
        ),
        (
            "sub-01_channels.tsv",
            "name\ttype\tunits\nFp1\tEEG\tT\n",
            "units of Fp1 are 'T'; they must be one of V",
        ),
        ("sub-01_electrodes.tsv", "name\tx\ty\nFp1\t1\t2\n", "column z is missing"),
        ("sub-01_electrodes.tsv", ELECTRODES, r"there is no \*_coordsystem.json beside it"),
    ],
)
def test_contradictions_with_sidecars(cohort, name, content, sentence):
    path = write(eeg_of(cohort), "fif", signals(4.0))
    put(eeg_of(cohort) / name, content)
    with pytest.raises(DataError, match=sentence) as raised:
        read_recording(path)
    assert name in str(raised.value) and "\n" not in str(raised.value)


def test_units_of_coordinates(cohort):
    path = write(eeg_of(cohort), "fif", signals(4.0))
    put(eeg_of(cohort) / "sub-01_electrodes.tsv", ELECTRODES)
    system = eeg_of(cohort) / "sub-01_coordsystem.json"
    put(system, {"EEGCoordinateSystem": "CapTrak"})
    with pytest.raises(DataError, match="EEGCoordinateUnits is missing"):
        read_recording(path)
    put(system, {"EEGCoordinateUnits": "inch"})
    with pytest.raises(DataError, match="'inch'; it must be m, cm or mm"):
        read_recording(path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "fmri"}, "kind of recording is 'fmri'"),
        ({"resample": 500.0}, "cannot be resampled to 500 Hz"),
        ({"resample": 0.0}, "cannot be resampled to 0 Hz"),
        ({"low_pass": 130.0}, "low_pass is 130 Hz; it must lie between 0 and 125 Hz"),
        ({"low_pass": 60.0, "resample": 100.0}, "between 0 and 50 Hz"),
        ({"high_pass": 20.0, "low_pass": 10.0}, "it must be below low_pass"),
        ({"high_pass": 0.05}, "longer than the signal"),
        ({"line_noise": 200.0}, "line noise is 200.0 Hz; give a number below 125"),
        ({"line_noise": "sidecar"}, "line noise is None Hz.* PowerLineFrequency"),
    ],
)
def test_options_that_do_not_fit(cohort, options, sentence):
    path = write(eeg_of(cohort), "fif", signals(4.0))
    with pytest.raises(DataError, match=sentence) as raised:
        read_recording(path, **options)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_recordings(cohort):
    folder = eeg_of(cohort)
    with pytest.raises(DataError, match="file not found"):
        read_recording(folder / "sub-01_task-rest_eeg.fif")
    with pytest.raises(DataError, match="extension is not that of a recording"):
        read_recording(put(folder / "sub-01_task-rest_eeg.txt", "1 2 3"))
    with pytest.raises(
        DataError, match=r"sub-01 the recording cannot be read \(.*\); export it again"
    ) as raised:
        read_recording(put(folder / "sub-01_task-rest_eeg.fif", "no fif"))
    assert "\n" not in str(raised.value)
    lonely = write(folder, "vhdr", signals(4.0))
    lonely.with_suffix(".eeg").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(lonely)


@pytest.mark.parametrize(("factor", "value"), [(1e6, "12.8 V"), (0.0, "0 V")])
def test_a_wrong_unit_is_noticed(cohort, factor, value):
    path = write(eeg_of(cohort), "fif", factor * signals(4.0))
    with pytest.raises(DataError, match=f"standard deviation of a typical channel is {value}"):
        read_recording(path)


def test_gaps_and_marks_over_everything(cohort):
    x = signals(4.0)
    x[7, 1] = np.nan
    with pytest.raises(DataError, match="values that are not numbers"):
        read_recording(write(eeg_of(cohort), "fif", x))
    raw = raw_of(signals(4.0))
    raw.set_annotations(mne.Annotations([0.0], [4.0], ["bad"]))
    path = eeg_of(cohort) / "sub-01_task-rest_eeg.fif"
    raw.save(path, verbose="error")
    with pytest.raises(DataError, match="all of it is marked bad"):
        read_recording(path)
    raw = raw_of(signals(4.0))
    raw.info["bads"] = list(NAMES)
    raw.save(path, overwrite=True, verbose="error")
    with pytest.raises(DataError, match="all of its channels are marked bad"):
        read_recording(path)


# ---------------------------------------------------------------- files of a subject


def test_finding_and_writing_files_loads_no_heavy_package():
    """The workflow lists files while it plans; MNE takes seconds to load."""
    code = (
        "import sys, brainloom.io.recordings, brainloom.io.simulated, brainloom.analysis.meeg\n"
        "print(sorted({'mne', 'nibabel', 'jax', 'pandas', 'mne_connectivity'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_are_found_in_order(tmp_path):
    def touch(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    wanted = [
        touch("sub-01/eeg/sub-01_task-rest_run-2_eeg.vhdr"),
        touch("sub-01/eeg/sub-01_task-rest_run-10_eeg.fif"),
        touch("sub-01/ses-b/eeg/sub-01_ses-b_task-rest_eeg.edf"),
    ]
    touch("sub-01/eeg/sub-01_task-rest_run-2_eeg.eeg")
    touch("sub-01/eeg/sub-01_task-rest_run-2_eeg.json")
    touch("sub-01/eeg/sub-01_task-rest_run-2_channels.tsv")
    touch("sub-01/eeg/sub-01_task-rest_run-10_split-02_eeg.fif")
    touch("sub-01/eeg/sub-01_task-motor_run-1_eeg.fif")
    touch("sub-01/meg/sub-01_task-rest_meg.fif")
    (tmp_path / "sub-01/meg/sub-01_task-rest_run-3_meg.ds").mkdir()
    assert recording_files(tmp_path, "sub-01", "rest") == wanted
    assert recording_files(tmp_path, "01", "rest", session="b") == wanted[2:]
    assert [path.name for path in recording_files(tmp_path, "01", "rest", "meg")] == [
        "sub-01_task-rest_meg.fif",
        "sub-01_task-rest_run-3_meg.ds",
    ]
    assert recording_files(tmp_path, "02", "rest") == []
    touch("sub-01/eeg/sub-01_task-rest_run-2_eeg.set")
    with pytest.raises(DataError, match=r"two files for the same run of eeg, the other is .*run-2_eeg.set"):
        recording_files(tmp_path, "01", "rest")
    sources = [
        touch("sub-01/meg/sub-01_task-rest_run-1_atlas-dk_timeseries.npy"),
        touch("sub-01/meg/sub-01_task-rest_run-2_atlas-dk_timeseries.tsv"),
    ]
    touch("sub-01/meg/sub-01_task-rest_run-2_atlas-aal_timeseries.tsv")
    assert source_series_files(tmp_path, "01", "rest", "meg", atlas="dk") == sources


# ---------------------------------------------------------------- source activity


REGIONS = ["L.front", "R.front", "L.back"]


def sources(seed=52):
    return np.random.default_rng(seed).normal(size=(400, 3))


def test_source_series_of_a_table_and_an_array(tmp_path):
    x, meta = sources(), {"SamplingFrequency": 200, "Units": "A m"}
    table = tmp_path / "sub-01_task-rest_timeseries.tsv"
    np.savetxt(table, x, delimiter="\t", header="\t".join(REGIONS), comments="")
    put(tmp_path / "timeseries.json", meta)
    found = read_source_series(table)
    np.testing.assert_allclose(found.data, x, rtol=1e-15)
    assert (found.sensors, found.kinds, found.info) == (REGIONS, ["source"] * 3, None)
    assert (found.sampling_frequency, found.unit, found.reference) == (200.0, "A m", "none")
    turned = read_source_series(table, REGIONS[::-1])
    np.testing.assert_array_equal(turned.data, found.data[:, ::-1])
    array = tmp_path / "sub-01_task-rest_run-2_timeseries.npy"
    np.save(array, x.astype(np.float32))
    put(array.with_suffix(".json"), {"Regions": REGIONS})
    read = read_source_series(array, REGIONS[::-1])
    np.testing.assert_array_equal(read.data, x.astype(np.float32)[:, ::-1])
    assert read.data.dtype == float and read.segments()[0].shape == (400, 3)


def test_source_series_of_cifti(tmp_path):
    import nibabel as nib

    parts = [
        (name, nib.cifti2.BrainModelAxis.from_surface(np.arange(3) + 3 * k, 10, "CortexLeft"))
        for k, name in enumerate(REGIONS)
    ]
    axes = nib.cifti2.SeriesAxis(0, 0.004, 400), nib.cifti2.ParcelsAxis.from_brain_models(parts)
    x = sources().astype(np.float32)
    path = tmp_path / "sub-01_task-rest_meg.ptseries.nii"
    nib.save(nib.Cifti2Image(x, axes), path)
    found = read_source_series(path, REGIONS[::-1])
    np.testing.assert_array_equal(found.data, x[:, ::-1])
    assert found.sampling_frequency == pytest.approx(250.0)
    with pytest.raises(DataError, match="lacks the atlas region 'other'"):
        read_source_series(path, [*REGIONS, "other"])
    hertz = nib.cifti2.SeriesAxis(0, 0.004, 400, unit="HERTZ")
    nib.save(nib.Cifti2Image(x, (hertz, axes[1])), path)
    with pytest.raises(DataError, match=r"advances by 0\.004 HERTZ"):
        read_source_series(path)
    scalars = nib.cifti2.ScalarAxis([str(k) for k in range(400)])
    nib.save(nib.Cifti2Image(x, (scalars, axes[1])), path)
    with pytest.raises(DataError, match="axes are ScalarAxis and ParcelsAxis"):
        read_source_series(path)
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read as CIFTI"):
        read_source_series(path)


def test_source_series_that_cannot_be_used(tmp_path):
    array = tmp_path / "sub-01_timeseries.npy"
    side = array.with_suffix(".json")
    np.save(array, sources())
    with pytest.raises(DataError, match="SamplingFrequency is missing"):
        read_source_series(array)
    put(side, {"SamplingFrequency": 200})
    with pytest.raises(DataError, match="an array does not name its regions"):
        read_source_series(array)
    put(side, {"SamplingFrequency": 200, "Regions": 3})
    with pytest.raises(DataError, match="Regions is no list of labels"):
        read_source_series(array)
    put(side, {"SamplingFrequency": 200, "Regions": REGIONS})
    np.save(array, sources().T)
    with pytest.raises(DataError, match=r"array is 3 x 400 for 3 regions.*save its transpose"):
        read_source_series(array)
    np.save(array, np.array(["a"]))
    with pytest.raises(DataError, match="must be \\(time, region\\) and real"):
        read_source_series(array)
    array.write_bytes(b"no array")
    with pytest.raises(DataError, match="is no array of numbers"):
        read_source_series(array)
    x = sources()
    x[3, 1] = np.inf
    np.save(array, x)
    with pytest.raises(DataError, match=r"region R\.front has values that are not numbers"):
        read_source_series(array)
    with pytest.raises(DataError, match=r"must be a \.tsv, \.npy or \.ptseries\.nii file"):
        read_source_series(put(tmp_path / "a.csv", "1,2"))
    with pytest.raises(DataError, match="file not found"):
        read_source_series(tmp_path / "a.tsv")
