"""The errors a user can meet; the text of each is one sentence that says what is wrong and what to do."""

from __future__ import annotations


class BrainloomError(Exception):
    """Base of every error that brainloom raises on purpose; ``str(error)`` is the sentence to show."""


class ConfigError(BrainloomError):
    """A configuration value is missing, unknown or out of range."""


class DataError(BrainloomError):
    """The input of one subject cannot be used; a workflow step excludes that subject and goes on."""


class StoreError(BrainloomError):
    """A stored dataset is damaged, of the wrong kind, or cannot be stored faithfully."""


class FetchError(BrainloomError):
    """Public data could not be downloaded or is not what was expected."""
