"""Sensor signals of regional activity: projection, units, references, noise, gradients."""

from __future__ import annotations

import brainloom.models  # noqa: F401

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import mne
import numpy as np
import pytest

from brainloom import HopfStep, Simulator
from brainloom.core.errors import DataError
from brainloom.core.units import UnitError
from brainloom.io.lead_field import LeadField
from brainloom.io.lead_fields import lead_field_from_forward, sphere_lead_field
from brainloom.io.sphere import CENTRE, RADIUS
from brainloom.observe import Sample, TemporalAverage
from brainloom.observe.lead_field import EEGLeadFieldModel, LeadFieldModel, MEGLeadFieldModel

mne.set_log_level("ERROR")
VOLT = u.parse_unit("V/(A*m)")
NAMES = ["Fz", "Cz", "Pz", "Oz", "C3", "C4"]
RNG = np.random.default_rng(0)
GAIN = RNG.normal(0, 30, (6, 4))
FREE = RNG.normal(0, 30, (6, 4, 3))


def plain(quantity, unit):
    return np.asarray(quantity.to_decimal(u.parse_unit(unit)))


@pytest.fixture(scope="module")
def forward():
    """MNE's own forward solution of four dipoles."""
    info = mne.create_info(NAMES, 1000.0, "eeg")
    info.set_montage(mne.channels.make_standard_montage("colin27_1020"))
    for channel in info["chs"]:
        away = channel["loc"][:3] - np.array(CENTRE) / 1e3
        channel["loc"][:3] = np.array(CENTRE) / 1e3 + away * RADIUS / 1e3 / np.linalg.norm(away)
    towards = RNG.normal(size=(4, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    where = (np.array(CENTRE) + 55.0 * towards) / 1e3
    return mne.make_forward_solution(
        info,
        trans=mne.transforms.Transform("head", "mri", np.eye(4)),
        src=mne.setup_volume_source_space(pos={"rr": where, "nn": towards}, mindist=0.0),
        bem=mne.make_sphere_model(np.array(CENTRE) / 1e3, RADIUS / 1e3),
        meg=False,
        eeg=True,
        mindist=0.0,
    )


def test_one_dipole_equals_the_projection_of_mne(forward):
    time_course = 1e-8 * np.sin(np.arange(20) / 3)  # A m
    normals = forward["src"][0]["nn"]
    moments = np.zeros((4, 3, 20))
    moments[2] = normals[2][:, None] * time_course
    stc = mne.VolVectorSourceEstimate(moments, [np.arange(4)], 0.0, 1e-3)
    theirs = mne.apply_forward(forward, stc, forward["info"]).data.T

    x = np.zeros((20, 4))
    x[:, 2] = time_course * 1e3 / 10e-9  # mV, 10 nA m for each V
    gain = 10 * u.nA * u.meter / u.volt
    parcels = [[at] for at in range(4)]
    fields = {
        "fixed": lead_field_from_forward(forward, parcels, orientation="fixed"),
        "sphere": sphere_lead_field(1e3 * forward["source_rr"], space="head", montage=NAMES, reference=None),
    }
    for field in fields.values():
        ours = EEGLeadFieldModel(4, 6, field, dipole_gain=gain)(x * u.mV)
        np.testing.assert_allclose(plain(ours, "V"), theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())
    # components of moments through a free lead field, and as a quantity of moments
    free = EEGLeadFieldModel(L=lead_field_from_forward(forward, parcels))
    ours = free(moments.transpose(2, 0, 1) * u.ampere * u.meter)
    np.testing.assert_allclose(plain(ours, "V"), theirs, rtol=1e-9, atol=1e-12 * np.abs(theirs).max())
    average = EEGLeadFieldModel(L=fields["sphere"], reference="average", dipole_gain=gain)(x * u.mV)
    evoked = mne.EvokedArray(theirs.T, mne.create_info(NAMES, 1000.0, "eeg"))
    evoked.set_eeg_reference("average", projection=False)
    np.testing.assert_allclose(plain(average, "V"), evoked.data.T, atol=1e-6 * np.abs(theirs).max())


def test_axes_are_what_dims_says():
    x = RNG.normal(size=(5, 4))
    expected = 1e-9 * x @ GAIN.T
    for L, dims in ((GAIN, None), (GAIN, ("sensor", "region")), (GAIN.T, ("region", "sensor"))):
        model = EEGLeadFieldModel(4, 6, L, dims=dims)
        assert (model.R, model.M) == (4, 6)
        np.testing.assert_allclose(plain(model(x), "V"), expected, rtol=1e-12)
    turned = EEGLeadFieldModel(4, 6, FREE.transpose(1, 0, 2), dims=("region", "sensor"))
    np.testing.assert_array_equal(turned.matrix(), EEGLeadFieldModel(4, 6, FREE).matrix())
    batched = EEGLeadFieldModel(4, 6, GAIN)(np.stack([x, 2 * x], 1))
    np.testing.assert_allclose(plain(batched, "V")[:, 1], 2 * expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"L": GAIN.T}, r"in_size=4 regions and out_size=6 sensors; give dims=\('region', 'sensor'\)"),
        ({"L": GAIN[:5]}, "correct the sizes or L"),
        ({"L": GAIN[:4], "out_size": 4}, r"is square \(4 x 4\); say with dims"),
        ({"L": GAIN[0]}, r"has the shape \(4,\)"),
        ({"dims": ("sensor", "time")}, "dims of EEGLeadFieldModel"),
        ({"reference": "Cz"}, "its sensors have no names; give sensors"),
        ({"reference": "Qz", "sensors": NAMES}, "reference is 'Qz'"),
        ({"sensors": NAMES[:2]}, "2 names for 6 sensors"),
        ({"normalise": "max"}, "must be 'l1', 'l2' or None"),
        ({"orientation": np.ones((4, 3))}, "has fixed orientations"),
        ({"L": FREE, "orientation": np.ones((3, 3))}, r"shape \(3, 3\); it must be \(4, 3\)"),
        ({"L": FREE, "orientation": np.zeros((4, 3))}, "orientation of region 0 in EEGLeadFieldModel"),
        ({"dipole_gain": np.ones(3)}, r"dipole_gain of EEGLeadFieldModel has the shape \(3,\)"),
        ({"noise_cov": np.ones((2, 2))}, r"noise_cov of EEGLeadFieldModel has the shape"),
        ({"noise_cov": np.triu(np.ones((6, 6)))}, "not finite and symmetric"),
        ({"noise_cov": -np.eye(6)}, "negative eigenvalue"),
        ({"L": None}, "no lead field"),
    ],
)
def test_what_does_not_fit_is_said(arguments, says):
    with pytest.raises(DataError, match=says):
        EEGLeadFieldModel(**({"in_size": 4, "out_size": 6, "L": GAIN} | arguments))


def test_signals_that_do_not_fit_are_said():
    with pytest.raises(DataError, match=r"shape \(5, 3\); it must end with \(region\) = \(4,\)"):
        EEGLeadFieldModel(4, 6, GAIN)(np.ones((5, 3)))
    with pytest.raises(DataError, match=r"must end with \(region, 3\) = \(4, 3\), or give orientation"):
        EEGLeadFieldModel(4, 6, FREE)(np.ones((5, 4)))
    with pytest.raises(DataError, match="has no noise"):
        EEGLeadFieldModel(4, 6, GAIN)(np.ones((5, 4)), key=jax.random.key(0))


# --- units -----------------------------------------------------------------------------------------------


def test_units_close():
    x = RNG.normal(size=(5, 4))
    expected = 3e-9 * x @ GAIN.T  # 3 nA m for each mV
    three = 3 * u.nA * u.meter / u.mV
    for model, signal in (
        (EEGLeadFieldModel(4, 6, GAIN, dipole_gain=three), x * u.mV),
        (EEGLeadFieldModel(4, 6, GAIN, dipole_gain=three), x * 1e-3 * u.volt),
        (EEGLeadFieldModel(4, 6, GAIN, dipole_gain=3.0), x * u.mV),
        (EEGLeadFieldModel(4, 6, GAIN * 1e-6, leadfield_unit="uV/(pA*m)", dipole_gain=3.0), x),
        (EEGLeadFieldModel(4, 6, GAIN * VOLT, dipole_gain=3.0 * u.nA * u.meter), x),
        (EEGLeadFieldModel(4, 6, GAIN, sensor_unit="uV", dipole_gain=3.0), x),
        (EEGLeadFieldModel(4, 6, GAIN, dipole_gain=3.0), x * 1e-9 * u.ampere * u.meter),  # moments
    ):
        np.testing.assert_allclose(plain(model(signal), "V"), expected, rtol=1e-9)
    assert EEGLeadFieldModel(4, 6, GAIN, sensor_unit="uV")(x).unit == u.uvolt


def test_meg_has_magnetometers_and_gradiometers():
    x = RNG.normal(size=(5, 4))
    mag = MEGLeadFieldModel(4, 6, GAIN * 1e-7)
    np.testing.assert_allclose(plain(mag(x), "fT"), 1e-1 * x @ GAIN.T, rtol=1e-9)
    grad = MEGLeadFieldModel(4, 6, GAIN * 1e-7, leadfield_unit="T/(A*m^2)")
    assert grad(x).unit.dim == u.parse_unit("T/m").dim
    np.testing.assert_allclose(plain(grad(x), "fT/cm"), 1e-3 * x @ GAIN.T, rtol=1e-9)
    field = LeadField(GAIN, NAMES, ["mag"] * 3 + ["grad"] * 3, list("abcd"))
    with pytest.raises(DataError, match=r"choose with LeadField.pick: mag, grad"):
        MEGLeadFieldModel(4, 6, field)
    assert MEGLeadFieldModel(4, 3, field.pick("grad")).sensors == ("Oz", "C3", "C4")
    with pytest.raises(DataError, match="magnetic sensors have no reference"):
        MEGLeadFieldModel(4, 6, GAIN, reference="average")


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        (EEGLeadFieldModel, {"L": GAIN * u.parse_unit("T/(A*m)")}, r"needed in V/\(A\*m\)"),
        (MEGLeadFieldModel, {"L": GAIN * VOLT}, r"needed in T/\(A\*m\) or T/\(A\*m\^2\)"),
        (EEGLeadFieldModel, {"leadfield_unit": "V"}, "given in V"),
        (MEGLeadFieldModel, {"sensor_unit": "T/m"}, "gives T; choose a unit that converts to T"),
        (EEGLeadFieldModel, {"bias": 1 * u.mA}, "bias of EEGLeadFieldModel is given in mA"),
        (EEGLeadFieldModel, {"noise_sd": 1 * u.tesla}, "noise_sd of EEGLeadFieldModel is given in T"),
        (
            EEGLeadFieldModel,
            {"noise_cov": np.eye(6) * u.volt},
            "noise_cov of EEGLeadFieldModel is given in V",
        ),
    ],
)
def test_wrong_units_are_said(kind, arguments, says):
    with pytest.raises(UnitError, match=says):
        kind(**({"in_size": 4, "out_size": 6, "L": GAIN} | arguments))


def test_a_gain_of_another_observable_is_said():
    model = EEGLeadFieldModel(4, 6, GAIN, dipole_gain=1 * u.nA * u.meter / u.Hz)
    with pytest.raises(UnitError, match="for an observable in mV is given in"):
        model(np.ones((1, 4)) * u.mV)
    with pytest.raises(DataError, match="has no unit"):
        LeadFieldModel(4, 6, GAIN)
    assert LeadFieldModel(4, 6, GAIN, leadfield_unit="T/(A*m)")(np.ones((1, 4))).unit == u.tesla


def test_single_precision_holds_small_fields():
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    model = MEGLeadFieldModel(4, 6, GAIN * 1e-7)
    p = jax.tree.map(lambda value: value.astype(jnp.float32), model.values(u.UNITLESS, "s"))
    found = model.at(p, jnp.asarray(x))
    assert found.dtype == jnp.float32
    expected = 1e-16 * x.astype(float) @ GAIN.T
    # rounding of four products of float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


# --- references, orientation, read-outs ------------------------------------------------------------------


def test_references():
    x = RNG.normal(size=(5, 4))
    average = EEGLeadFieldModel(4, 6, GAIN, reference="average", sensor_unit="uV")(x).mantissa
    assert np.abs(average.sum(-1)).max() < 1e-12
    by_cz = EEGLeadFieldModel(4, 6, GAIN, reference="Cz", sensors=NAMES, sensor_unit="uV")(x).mantissa
    assert not np.abs(by_cz[:, 1]).max() > 1e-15
    np.testing.assert_allclose(by_cz - by_cz.mean(-1, keepdims=True), average, rtol=1e-9, atol=1e-12)


def test_orientations_turn_free_lead_fields():
    x = RNG.normal(size=(5, 4))
    towards = RNG.normal(size=(4, 3))
    unit = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    fixed = EEGLeadFieldModel(4, 6, FREE, orientation=towards)(x)
    np.testing.assert_allclose(plain(fixed, "nV"), np.einsum("tr,srk,rk->ts", x, FREE, unit), rtol=1e-9)
    free = EEGLeadFieldModel(4, 6, FREE, dipole_gain=np.arange(4.0))(x[..., None] * unit)
    scaled = EEGLeadFieldModel(4, 6, FREE, dipole_gain=np.arange(4.0), orientation=unit)(x)
    np.testing.assert_allclose(plain(free, "nV"), plain(scaled, "nV"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2)])
def test_normalised_rows(norm, order):
    model = EEGLeadFieldModel(4, 6, GAIN, normalise=norm, sensor_unit="uV", bias=0.5)
    np.testing.assert_allclose(np.linalg.norm(model.matrix(), order, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        model(np.eye(4)).mantissa.T,
        GAIN / np.linalg.norm(GAIN, order, axis=1, keepdims=True) + 0.5,
        rtol=1e-12,
    )
    silent = np.vstack([np.zeros((1, 4)), GAIN[1:]])
    grads = jax.grad(lambda L: EEGLeadFieldModel(4, 6, L, normalise=norm).matrix()[1:].sum())(silent)
    assert np.isfinite(grads).all()
    tiny = MEGLeadFieldModel(4, 6, GAIN * 1e-30, normalise=norm)  # squares of it are no numbers in float32
    np.testing.assert_allclose(tiny.matrix(), model.matrix(), rtol=1e-9)


# --- noise -----------------------------------------------------------------------------------------------


def test_noise_has_the_covariance_that_is_given():
    n = 20_000
    half = RNG.normal(size=(6, 6))
    cov = half @ half.T
    average = np.eye(6) - 1 / 6
    singular = average @ cov @ average
    for given, sd in ((cov, None), (singular, None), (singular, np.arange(6.0) / 3), (None, 0.7)):
        model = EEGLeadFieldModel(4, 6, GAIN, sensor_unit="uV", noise_cov=given, noise_sd=sd)
        expected = (0 if given is None else given) + (
            0 if sd is None else np.diag(np.ones(6) * np.square(sd))
        )
        stated = model.noise_covariance()
        assert stated.unit == u.uvolt**2
        np.testing.assert_allclose(stated.mantissa, expected, atol=1e-9)
        found = model.add_noise(jnp.zeros((n, 6)), jax.random.key(1)).mantissa
        sample = found.T @ found / n
        variance = np.diag(expected)
        error = np.sqrt((np.outer(variance, variance) + expected**2) / n)
        # 21 entries of four cases: beyond 5 standard errors with a probability below 1e-4
        assert (np.abs(sample - expected) <= 5 * error + 1e-12).all()
        assert np.abs(found.mean(0)).max() <= 5 * np.sqrt(variance.max() / n)
    with_unit = EEGLeadFieldModel(4, 6, GAIN, sensor_unit="uV", noise_cov=cov * 1e-12 * u.volt**2)
    np.testing.assert_allclose(with_unit.noise_covariance().mantissa, cov, rtol=1e-9)


def test_noise_comes_with_a_key_only():
    model = EEGLeadFieldModel(4, 6, GAIN, sensor_unit="uV", noise_sd=1e-3 * u.mV)
    x = RNG.normal(size=(300, 2, 4))
    clean, noisy = model(x), model(x, key=jax.random.key(3))
    np.testing.assert_array_equal(clean.mantissa, model.update(x).mantissa)
    np.testing.assert_array_equal(noisy.mantissa, model.add_noise(clean, jax.random.key(3)).mantissa)
    # 3600 draws of sd 1: within 5 standard errors
    assert abs(np.std(noisy.mantissa - clean.mantissa) - 1) < 5 / np.sqrt(2 * 3600)
    in_volts = model.add_noise(clean.in_unit(u.volt), jax.random.key(3))
    np.testing.assert_allclose(in_volts.to_decimal(u.uvolt), noisy.mantissa, rtol=1e-9)


def test_covariance_of_sensors_follows_from_that_of_regions():
    half = RNG.normal(size=(4, 4)) + 1j * RNG.normal(size=(4, 4))
    source = half @ half.conj().T
    model = EEGLeadFieldModel(4, 6, GAIN, dipole_gain=2 * u.nA * u.meter / u.mV, sensor_unit="nV")
    found = model.covariance(np.stack([source, 2 * source]) * u.mV**2 / u.Hz, "mV")
    expected = 4 * GAIN @ source @ GAIN.T
    unit = u.parse_unit("nV") ** 2 / u.Hz
    np.testing.assert_allclose(found.to_decimal(unit)[1], 2 * expected, rtol=1e-9)
    x = RNG.normal(size=(50, 4))
    signals = plain(model(x * u.mV), "nV")
    covariance = model.covariance(np.cov(x.T) * u.mV**2, "mV").to_decimal(u.parse_unit("nV") ** 2)
    np.testing.assert_allclose(covariance, np.cov(signals.T), rtol=1e-8, atol=1e-8)
    with pytest.raises(UnitError, match="source covariance"):
        model.covariance(source * u.Hz, "mV")


# --- gradients, and simulations --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["L", "dipole_gain", "orientation", "bias"])
def test_gradients_agree_with_finite_differences(name):
    x = RNG.normal(size=(5, 4))
    target = RNG.normal(size=(5, 6))
    start = {
        "L": FREE,
        "dipole_gain": np.array([1.0, 2.0, 0.5, 1.5]),
        "orientation": RNG.normal(size=(4, 3)),
        "bias": np.ones(6),
    }

    def loss(value, **more):
        given = start | {name: value} | more
        model = EEGLeadFieldModel(4, 6, sensor_unit="nV", reference="average", normalise="l2", **given)
        return ((model(x).mantissa - target) ** 2).mean()

    found = jax.grad(loss)(start[name])
    step = 1e-6
    towards = RNG.normal(size=start[name].shape)
    slope = (loss(start[name] + step * towards) - loss(start[name] - step * towards)) / (2 * step)
    # central differences: step^2 and rounding / step, both below 1e-8 of a loss near 1
    np.testing.assert_allclose((found * towards).sum(), slope, rtol=1e-6, atol=1e-9)


def test_trainable_parameters_are_found_and_learn():
    x = RNG.normal(size=(40, 4))
    target = EEGLeadFieldModel(4, 6, GAIN / 30, sensor_unit="nV")(x).mantissa
    model = EEGLeadFieldModel(
        4,
        6,
        brainstate.nn.Param(jnp.zeros((6, 4)), fit=True),
        sensor_unit="nV",
        dipole_gain=brainstate.nn.Param(1.0, fit=True),
        bias=brainstate.nn.Param(jnp.zeros(6), fit=True),
    )
    states = model.states(brainstate.ParamState)
    assert {path[0] for path in states} == {"L", "dipole_gain", "bias"}

    def loss():
        return ((model(x).mantissa - target) ** 2).mean()

    slopes = brainstate.transform.grad(loss, states)
    first = loss()
    for _ in range(30):
        for path, slope in slopes().items():
            states[path].value = jax.tree.map(lambda a, b: a - 0.2 * b, states[path].value, slope)
    assert loss() < 0.2 * first
    with_unit = EEGLeadFieldModel(4, 6, brainstate.nn.Param(GAIN / 30 * VOLT, fit=True), sensor_unit="nV")
    np.testing.assert_allclose(with_unit(x).mantissa, target, rtol=1e-9)


def test_behind_an_observer_in_a_simulation():
    node = HopfStep(4, a=0.25, w=[0.2, 0.3, 0.4, 0.5])
    eeg = EEGLeadFieldModel(4, 6, GAIN, reference="average", dipole_gain=5.0, sensor_unit="nV")
    watch = TemporalAverage("x") >> eeg
    assert watch.DIMS == ("sensor",)
    run = Simulator(node, dt=0.1).run
    res = run(20.0, sample_every=1.0, monitors=[], observe=[TemporalAverage("x", name="mean"), watch])
    found = u.get_mantissa(res["average"])
    assert found.shape == (20, 6)
    np.testing.assert_allclose(found, eeg(res["mean"]).mantissa, rtol=1e-9, atol=1e-9)
    batch = run(5.0, batch_size=3, monitors=[], observe=[Sample("x") >> eeg])
    assert batch["sample"].shape == (50, 3, 6)


def test_gradients_pass_through_a_simulation():
    sim = Simulator(HopfStep(4, a=0.25), dt=0.1)
    gain = np.array([1.0, 2.0, 0.5, 1.5])

    def loss(gain, L):
        eeg = EEGLeadFieldModel(4, 6, L, dipole_gain=gain, sensor_unit="nV")
        res = sim.run(5.0, sample_every=1.0, monitors=[], observe=[TemporalAverage("x") >> eeg])
        return (u.get_mantissa(res["average"]) ** 2).mean()

    slopes = jax.grad(loss, (0, 1))(gain, GAIN)
    step, towards = 1e-6, (RNG.normal(size=4), RNG.normal(size=(6, 4)))
    up, down = (loss(gain + h * towards[0], GAIN + h * towards[1]) for h in (step, -step))
    found = sum((slope * along).sum() for slope, along in zip(slopes, towards, strict=True))
    # central differences, as above
    np.testing.assert_allclose(found, (up - down) / (2 * step), rtol=1e-6)


def test_equal_settings_share_programs_whatever_the_parameters():
    one, other = EEGLeadFieldModel(4, 6, GAIN), EEGLeadFieldModel(4, 6, 2 * GAIN, reference="average")
    assert one.static() == other.static() and hash(one.static()) == hash(other.static())
    assert one.static() != MEGLeadFieldModel(4, 6, GAIN).static()
    assert one != EEGLeadFieldModel(4, 6, GAIN, sensor_unit="uV")
