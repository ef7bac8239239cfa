"""A study as the workflow sees it: which subjects, in which jobs, read and written where."""
