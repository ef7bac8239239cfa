"""Short definitions at the end of the report."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "FC",
        "Functional connectivity: Pearson correlation of the cleaned signals of two regions. An FC correlation "
        "compares the entries above the diagonal of two such matrices.",
    ),
    ("Held out", "The part of a subject's recording that no fit, choice or prior has seen."),
    (
        "Ceiling",
        "The subject's own training FC as predictor of the held-out FC: what a perfect description of the "
        "training data would score. A model can pass it only by removing noise.",
    ),
    (
        "Of attainable",
        "Held-out FC correlation divided by the square root of the reliability of the held-out FC (Spearman 1904), which is estimated "
        "from its correlation with the training FC. 1 is a perfect model of the FC that both parts share: an upper bound that no fit to a "
        "finite recording reaches in the mean. A subject whose parts hardly correlate has a large and uncertain ratio.",
    ),
    (
        "Stationary null",
        "Phase-randomised copies of the training part as predictors of the held-out part: a stationary linear process with the spectra "
        "and correlations of that part, without a model and without a connectome.",
    ),
    (
        "Discriminability",
        "Probability that two measurements of one subject are closer (Euclidean distance) than one of them is to a measurement of "
        "another subject; 0.5 by chance, 1 at best. p: subjects permuted.",
    ),
    (
        "Group mean",
        "Mean FC of all other subjects. A personalised model that does not beat it has not shown that it is "
        "personal.",
    ),
    (
        "Controls",
        "The same model, fitted in the same way, on a connectome that is not the subject's. With free regional "
        "parameters a model fits well on almost any connectome: only the difference to the controls speaks for the "
        "connectome.",
    ),
    (
        "Analytic and simulated",
        "Analytic scores use the covariance of the model linearised for small noise, which is "
        "what the fit minimises. Simulated scores use the full equations with new random numbers.",
    ),
    (
        "FCD",
        "Functional connectivity dynamics: correlation of the FC of all pairs of sliding windows. The distance is "
        "the largest gap between two cumulative distributions (Kolmogorov-Smirnov).",
    ),
    (
        "Identification",
        "A subject is identified if its own model predicts its held-out FC better than the model of any "
        "other subject.",
    ),
    (
        "Interval",
        "From the linearised fit at its optimum: sampling error of FC at its effective number of samples, and the "
        "pull of the prior. It does not include errors of the model itself.",
    ),
    (
        "Gauge",
        "What the data cannot determine in principle. FC does not change with the overall scale of noise or of "
        "time; these are fixed, and only patterns are read.",
    ),
    (
        "Stability margin",
        "Distance of the slowest mode of the fitted model from instability, in 1/s; its inverse is the "
        "longest time constant.",
    ),
    (
        "Effective samples",
        "Number of independent samples with the same sampling error as the autocorrelated recording.",
    ),
)

#: Only in reports of studies with EEG or MEG.
ELECTRIC: tuple[tuple[str, str], ...] = (
    (
        "Spectrum r of EEG and MEG",
        "Correlation over frequencies of log power, mean over channels: the shape of spectra. The RMSE, in decades of "
        "power, also sees their level.",
    ),
    (
        "Alpha peak",
        "Frequency of the largest deviation from the aperiodic part of a spectrum between 7 and 13 Hz, if it stands out "
        "of the scatter.",
    ),
    (
        "Envelope connectivity",
        "Correlation of amplitude envelopes in one band, each pair made orthogonal first: what reaches two channels at "
        "the same moment does not count. Linear theory gives no envelopes, so only simulations are scored.",
    ),
    (
        "Lead field",
        "What each sensor measures of a dipole of unit moment in each region. Spectra at sensors depend on it; a wrong one "
        "is not repaired by the fit.",
    ),
)
