"""What the schema cannot say of the section ``group`` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Contradiction = tuple[tuple[str, ...], str]


def group_contradictions(config: Mapping[str, Any]) -> list[Contradiction]:
    """
    Tests that contradict each other or themselves.

    Parameters
    ----------
    config : mapping
        With defaults filled in.

    Returns
    -------
    list of (tuple of str, str)
        Place and sentence.

    Examples
    --------
    >>> group_contradictions({"group": {"tests": [{"covariate": "age", "nuisance": ["age"]}], "harmonise": None}})[0][1]
    'group.tests[0].nuisance names age, which is the covariate of interest; leave it out'
    """
    group = config["group"]
    found: list[Contradiction] = []
    seen: list[tuple[str, tuple[str, ...]]] = []
    for k, test in enumerate(group["tests"]):
        nuisance = tuple(test.get("nuisance", ()))
        place = f"group.tests[{k}]"
        if test["covariate"] in nuisance:
            found.append(
                (
                    ("group", "tests"),
                    f"{place}.nuisance names {test['covariate']}, which is the covariate of interest; leave it out",
                )
            )
        if (test["covariate"], nuisance) in seen:
            found.append((("group", "tests"), f"{place} is the same test as one before; leave it out"))
        seen.append((test["covariate"], nuisance))
        if group["harmonise"] in (test["covariate"], *nuisance):
            found.append(
                (
                    ("group", "harmonise"),
                    f"group.harmonise is {group['harmonise']}; it must be null, or no covariate of {place}: "
                    "its effect is adjusted for once",
                )
            )
    return found
