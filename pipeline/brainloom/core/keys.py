"""Random keys: every draw of a study follows from its seed and the name of what is drawn."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax


def named_key(seed: int, *names: str) -> jax.Array:
    """
    Key of one purpose, such as ``named_key(0, "simulate", "01")``.

    Parameters
    ----------
    seed : int
        Seed of the study.
    *names : str
        Step, subject and what else tells draws apart. Different names give independent streams, so scores
        never reuse the noise of a fit.

    Returns
    -------
    jax.random key
    """
    import jax

    key = jax.random.key(seed)
    for name in names:
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return key
