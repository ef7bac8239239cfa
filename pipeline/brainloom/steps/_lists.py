"""Lists of files of many subjects on a command line that stays short: the kernel ends it at 128 kB."""

from __future__ import annotations

from collections.abc import Sequence

#: Stands for the label of a subject in the name of a file.
PLACE = "%s"


def written_out(argv: Sequence[str]) -> list[str]:
    """
    Write out the lists that a command line abbreviates.

    Parameters
    ----------
    argv : sequence of str
        With ``--each`` and labels, every value that holds ``%s`` stands for one value a label, in their order. Without
        ``--each`` nothing is changed.

    Returns
    -------
    list of str
        The words without ``--each`` and its labels.

    Examples
    --------
    >>> written_out(["--each", "01", "02", "--fit", "sub-%s_desc-fit.zarr.zip", "--output", "x"])
    ['--fit', 'sub-01_desc-fit.zarr.zip', 'sub-02_desc-fit.zarr.zip', '--output', 'x']
    """
    words = list(argv)
    if "--each" not in words:
        return words
    begin = words.index("--each")
    end = next((k for k in range(begin + 1, len(words)) if words[k].startswith("--")), len(words))
    labels = words[begin + 1 : end]
    found: list[str] = []
    for word in words[:begin] + words[end:]:
        found += [word.replace(PLACE, label) for label in labels] if PLACE in word else [word]
    return found
