"""An identification in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from brainloom.fit.readout import plain

if TYPE_CHECKING:
    from brainloom.fit.identification import Identification
    from brainloom.fit.readout import Estimate

# Parts of a direction (squared) from which on a parameter takes part in it.
PART = 0.1
# A fit that is further from its optimum than this, in standard deviations, has not converged.
FAR = 0.2
MOST = 5


def text(found: Identification) -> str:
    """The table and the sentences of `Identification.summary`."""
    from brainloom.fit.identification import WORDS, verdict

    n = len(found.theta)
    lines = [
        f"{n} fitted number{'s' * (n != 1)}, curvature by {found.method}, errors by {found.errors}, "
        f"{100 * found.level:g} % intervals",
        "",
    ]
    rows = [("parameter", "estimate", "interval", "unit", "identified")]
    for name, one in found.estimates.items():
        words = verdict(one)
        value, low, high = plain(one.value), plain(one.lower), plain(one.upper)
        unit = str(one.value.unit) if hasattr(one.value, "unit") else "1"
        if value.ndim == 0:
            rows.append((name, f"{value:.4g}", f"{low:.4g} to {high:.4g}", unit, WORDS[str(words)]))
        else:
            counts = [
                f"{int((words == key).sum())} {word}" for key, word in WORDS.items() if (words == key).any()
            ]
            width = np.median(high - low)
            span = f"{value.min():.4g} to {value.max():.4g}"
            rows.append((f"{name} {list(value.shape)}", span, f"width {width:.3g}", unit, ", ".join(counts)))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.append("")
    lines += [_sentence(found, name, one) for name, one in found.estimates.items()]
    return "\n".join([*lines, *_of_directions(found), *_of_quality(found), *found.notes])


def _sentence(found: Identification, name: str, one: Estimate) -> str:
    from brainloom.fit.identification import WORDS, verdict

    words = verdict(one)
    if words.ndim == 0:
        return f"{name} is {WORDS[str(words)]}: {_why(one, ())}.{_takes_part(found, name)}"
    counts = [f"{int((words == key).sum())} {word}" for key, word in WORDS.items() if (words == key).any()]
    share = np.where(np.isnan(one.contraction), 1.0 - one.relative_error, one.contraction)
    said = f"{name}: of {words.size} values, {' and '.join(counts)}"
    if np.isfinite(share).any():
        worst = np.unravel_index(int(np.nanargmin(np.where(np.isneginf(share), -1e300, share))), share.shape)
        label = one.labels[int(np.ravel_multi_index(worst, share.shape))]
        said += f"; least {label}: {_why(one, worst)}"
    return f"{said}.{_takes_part(found, name)}"


def _why(one: Estimate, place: tuple) -> str:
    contraction, relative = one.contraction[place], one.relative_error[place]
    if np.isfinite(contraction):
        return f"the data take {100 * contraction:.0f} % off the standard deviation of its prior"
    if np.isinf(relative) or np.isinf(plain(one.sd)[place]):
        return "the data leave a direction open in which it changes"
    if np.isnan(relative):
        return "its value is 0 and it has no prior; give prior_sd"
    return f"its error is {100 * relative:.2g} % of its size (it has no prior)"


def _takes_part(found: Identification, name: str) -> str:
    """The sloppiest direction that a parameter has a large part in."""
    mine = [k for k, label in enumerate(found.coefficients) if label.partition("[")[0] == name]
    n = len(found.theta)
    sloppy = range(n - 1, n - 1 - found.spectrum.n_sloppy, -1)
    if not mine:
        return ""
    some = [k for k in sloppy if np.sum(found.spectrum.vector[k][mine] ** 2) > PART]
    if not some:
        return ""
    more = f" and {len(some) - 1} more" if len(some) > 1 else ""
    return f" It takes part in sloppy direction {some[0] + 1}{more}."


def _of_directions(found: Identification) -> list[str]:
    spectrum, n = found.spectrum, len(found.theta)
    lines = [
        f"{spectrum.n_sloppy} of {n} directions {'is' if spectrum.n_sloppy == 1 else 'are'} sloppy "
        f"(sloppy: {spectrum.rule}); the condition number is {spectrum.condition:.3g}."
    ]
    flat = np.argsort(np.abs(spectrum.value), kind="stable")[: spectrum.n_flat]
    for k in flat[:MOST]:
        lines.append(f"The data do not change along {found.direction(int(k))} (direction {k + 1}).")
    if spectrum.n_flat > MOST:
        lines.append(f"The same holds of {spectrum.n_flat - MOST} more directions.")
    if spectrum.n_sloppy > spectrum.n_flat:
        last = n - 1 if not spectrum.n_flat else int(np.setdiff1d(np.arange(n), flat).max())
        lines.append(
            f"The sloppiest direction that they see is {found.direction(last)} (direction {last + 1})."
        )
    traded = found.trade_offs()
    for one, other, r in traded[:MOST]:
        how = "rise together" if r > 0 else "trade off"
        lines.append(f"{one} and {other} {how} (r = {r:.3f}).")
    if len(traded) > MOST:
        lines.append(f"So do {len(traded) - MOST} more pairs.")
    return lines


def _of_quality(found: Identification) -> list[str]:
    lines: list[Any] = []
    if found.negative < 0.0:
        lines.append(
            "This is not a minimum: the loss falls along a direction "
            f"(curvature {found.negative:.2g} of the largest); fit on. Errors are those of the other directions."
        )
    far = np.nanmax(np.abs(found.step), initial=0.0)
    if far > FAR:
        k = int(np.nanargmax(np.abs(found.step)))
        lines.append(
            f"The fit has not converged: its optimum is {far:.2g} standard deviations away in {found.coefficients[k]}; "
            "fit on, or give result= so that the noise is that of the fit."
        )
    if found.seeds is not None:
        own, seeds = found.sd, np.sqrt(np.diag(found.seeds))
        bounded = np.isfinite(own) & (own > 0.0)
        ratio = seeds[bounded] / own[bounded]
        if ratio.size:
            large = int((ratio > 1.0).sum())
            said = f"Noise seeds move estimates by {np.median(ratio):.2g} standard errors (median)"
            lines.append(
                f"{said}; they dominate the error of {large} of {ratio.size} numbers: fit with more realisations."
                if large
                else f"{said}, less than the data leave open."
            )
    return lines
