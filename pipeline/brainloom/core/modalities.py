"""Names of what is recorded."""

from __future__ import annotations

ELECTRIC = ("eeg", "meg")
MODALITIES = ("bold", *ELECTRIC)
# Of a recording whose dataset names no unit.
UNITS = {"eeg": "V", "meg": "T"}
