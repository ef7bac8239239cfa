"""What pooled fits choose from besides what the configuration names: no more than numbers, for `brainloom plan` too."""

from __future__ import annotations

# Weights, times regions, of what maps leave of the fields of the prior: the candidates beside maps off.
MAP_STRENGTHS = (0.03, 0.3)
# Directions are tried where every prior has so many subjects for each of them, with the prior so much stronger than
# without: it holds only what is left of the deviations.
SUBJECTS_A_DIRECTION = 4
FIRMER = (10.0, 30.0)
# Subjects whose fits directions of a cohort are learned from; more of them take time and add little.
TEACHERS = 100
