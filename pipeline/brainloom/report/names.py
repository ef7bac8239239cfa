"""Readable names, fixed order and colours of everything that the report shows.

One table, so that a predictor has the same name and colour in every figure and table.
"""

from __future__ import annotations

from typing import Any

from brainloom.core.modalities import ELECTRIC

#: Predictor -> (readable name, colour, one-line meaning). The order is the order in figures and tables.
#: Colours: models blue and green, references violet and grey, structure brown, fitted controls one orange family.
PREDICTORS: dict[str, tuple[str, str, str]] = {
    "model_analytic": (
        "Model (analytic)",
        "#0b6fb8",
        "FC of the fitted model from its linear-noise covariance",
    ),
    "model_simulated": (
        "Model (simulated)",
        "#0a9b7b",
        "mean FC of the full equations, simulated with fresh seeds at the fitted parameters",
    ),
    "model_pooled": ("Model (pooled)", "#5aa9dd", "the same model refitted with a cohort prior"),
    "model_interpretation": (
        "Model (for interpretation)",
        "#2f7f93",
        "the model by itself at the strength of regularisation that gives reliable parameters",
    ),
    "ceiling": ("Ceiling (own training data)", "#6b7684", "the subject's own training FC used as predictor"),
    "mixture": (
        "Own + group mixture",
        "#8f6fc0",
        "the subject's training FC mixed with the mean FC of the others; no model",
    ),
    "group_mean": ("Group mean", "#b36fb0", "mean FC of all other subjects, no model"),
    "structural": ("Structural connectome", "#8a6d3b", "the connection weights themselves, no dynamics"),
    "control_other_subject": (
        "Control: other subject's connectome",
        "#e08a1e",
        "the same model fitted on another subject's connectome",
    ),
    "control_distance_shuffle": (
        "Control: weights shuffled within distance",
        "#cf6a1a",
        "the same model on weights permuted within bins of equal length",
    ),
    "control_rewired": (
        "Control: rewired connectome",
        "#a8622f",
        "the same model on connections swapped at random, each region with as many as measured",
    ),
    "control_edge_shuffle": (
        "Control: weights shuffled",
        "#b8501a",
        "the same model on randomly permuted weights",
    ),
    "control_distance": (
        "Control: distance only",
        "#e0a95a",
        "the same model on weights that depend on distance alone",
    ),
    "control_uniform": ("Control: uniform weights", "#c9956b", "the same model on equal weights"),
    "stationary_train": (
        "Stationary null (training part)",
        "#9aa4b1",
        "phase-randomised copies of the training part: a stationary linear process with its spectra and FC",
    ),
    "stationary_surrogate": (
        "Stationary surrogate",
        "#7d8794",
        "phase-randomised copies of the part that is compared: stationary and linear, with its spectra and FC",
    ),
    "empirical": ("Recording", "#4a525c", "the recording itself"),
}

#: Metric -> (column head, axis label, decimals).
METRICS: dict[str, tuple[str, str, int]] = {
    "fc_r": ("FC r", "FC correlation r", 3),
    "fc_r_corrected": ("FC r, of attainable", "FC correlation, corrected for noise", 3),
    "fc_z": ("FC Fisher z", "Fisher z of the FC correlation", 3),
    "fc_rmse": ("FC RMSE", "FC root-mean-square error", 3),
    "lag1_r": ("Lag-1 r", "r of lag-1 correlations", 3),
    "psd_r": ("Spectrum r", "r of power spectra", 3),
    "psd_rmse": ("Spectrum RMSE", "error of power spectra", 3),
    "variance_r": ("Variance r", "r of regional variances", 3),
    "fcd_ks": ("FCD KS", "FCD distance (Kolmogorov-Smirnov)", 3),
    "metastability": ("Metastability", "metastability", 3),
    **{
        f"{name}_{key}": (f"{name.upper()} {head}", f"{name.upper()}: {label}", digits)
        for name in ELECTRIC
        for key, head, label, digits in (
            ("psd_r", "spectrum r", "r of power spectra", 3),
            ("psd_rmse", "spectrum RMSE", "error of power spectra (decades)", 3),
            ("peak_error", "alpha error (Hz)", "error of the alpha peak (Hz)", 2),
            ("envelope_fc_r", "envelope FC r", "r of envelope correlations", 3),
        )
    },
}

#: Parameter -> (readable name, what it is).
PARAMETERS: dict[str, tuple[str, str]] = {
    "coupling": ("Global coupling", "strength of all connections"),
    "homotopic": ("Homotopic weight", "extra edge to the mirror region, in units of the mean strength"),
    "a": ("Local parameter a", "distance to the Hopf bifurcation; negative is damped"),
    "gamma": ("Local parameter gamma", "local decay; negative is stable"),
    "beta": (
        "Saturation beta",
        "strength of the nonlinearity; FC does not determine it, it is set, not fitted",
    ),
    "noise": ("Noise amplitude", "regional noise; only its pattern is fitted, its overall scale is fixed"),
    "k": ("Global coupling k", "gain of all connections"),
    "speed": ("Conduction speed", "of all connections"),
    "bold_gain": ("BOLD gain", "haemodynamic drive by a unit of the observable"),
    "bold_noise": ("BOLD noise", "standard deviation of what the scanner adds to a frame"),
    "dipole_gain": ("Dipole gain", "dipole moment of a unit of the observable"),
    "sensor_noise": ("Sensor noise", "amplitude density of what a sensor adds"),
    "gain_in": ("Incoming gain", "regional factor on incoming connections"),
    "gain_out": ("Outgoing gain", "regional factor on outgoing connections"),
}

SPLITS = {"train": "Training", "validation": "Validation", "test": "Held out"}

#: Colours of `identified`: from sure to unknown.
IDENTIFIED = {"yes": "#0b6fb8", "weak": "#8ebfe0", "no": "#c3c8ce"}

EMPIRICAL = "#4a525c"
TRUTH = "#b8501a"


def predictor_name(predictor: str) -> str:
    """Readable name of a predictor; unknown ones are shown as they are, without underscores."""
    return PREDICTORS[predictor][0] if predictor in PREDICTORS else predictor.replace("_", " ")


def predictor_colour(predictor: str) -> str:
    """Colour of a predictor, grey for an unknown one."""
    return PREDICTORS[predictor][1] if predictor in PREDICTORS else "#7d8794"


def predictor_order(predictors) -> list[str]:
    """Sort predictors into the order of the table, unknown ones last by name."""
    known = list(PREDICTORS)
    return sorted(set(predictors), key=lambda p: (known.index(p) if p in known else len(known), p))


def metric_label(metric: str) -> str:
    """Axis label of a metric."""
    return METRICS[metric][1] if metric in METRICS else metric.replace("_", " ")


def parameter_name(parameter: str) -> str:
    """Readable name of a model parameter."""
    return PARAMETERS[parameter][0] if parameter in PARAMETERS else parameter.replace("_", " ")


def unit_text(unit: object) -> str:
    """Unit as written behind a label: empty for dimensionless or missing units."""
    text = "" if unit is None else str(unit).strip()
    return "" if text in ("", "1", "nan", "None") else text.replace("sqrt(s)", "\u221as")


def tick_text(value: float) -> str:
    """A tick label without trailing zeros."""
    return f"{value:g}".replace("-", "\u2212", 1)


def with_unit(label: str, unit: object) -> str:
    """`label (unit)`, or the label alone where there is no unit."""
    text = unit_text(unit)
    return f"{label} ({text})" if text else label


def number(value: Any, digits: int = 3, *, significant: bool = False) -> str:
    """A number for a table: a fixed number of decimals, an en dash where it is missing or not finite.

    Parameters
    ----------
    value : float or anything
    digits : int
        Decimals.
    significant : bool
        Show values that would become zero with that many significant digits instead.

    Examples
    --------
    >>> number(0.74249), number(float("nan")), number(1234.5678), number(0.0000123, significant=True)
    ('0.742', '–', '1235', '1.23e-05')
    """
    try:
        x = float(value)
    except (TypeError, ValueError):
        return "–"
    if x != x or x in (float("inf"), float("-inf")):
        return "–"
    if x == 0:
        return f"{x:.{digits}f}"
    if abs(x) >= 1000:
        text = f"{x:.0f}"
    elif significant and abs(x) < 10.0 ** (-digits):
        text = f"{x:.{digits}g}"
    else:
        text = f"{x:.{digits}f}"
    if x < 0 and not text.strip("-0."):
        return text.lstrip("-")
    return text.replace("-", "\u2212", 1) if x < 0 else text


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "\u2212", 1) if text.strip("+-0.") else text[1:]
