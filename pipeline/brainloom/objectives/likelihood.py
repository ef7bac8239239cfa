"""Negative log-likelihoods: Gaussian noise, covariances (Wishart) and cross-spectra (complex Wishart, Whittle)."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.objectives.arrays import centre
from brainloom.objectives.base import (
    Objective,
    check_finite,
    check_result,
    is_feature,
    known,
    read_matrix,
    read_signal,
    same_shape,
    scale_to,
    split_unit,
)
from brainloom.objectives.connectivity import functional_connectivity
from brainloom.objectives.features import CSD, FC, Covariance, Normal


@jax.custom_jvp
def divergence(model: jax.Array, data: jax.Array) -> jax.Array:
    """
    ``log det S + tr(S^-1 D)`` of positive definite matrices S and data D, by the Cholesky factor of S.

    Smallest where S = D. NaN where S is not positive definite.

    Parameters
    ----------
    model, data : (..., n, n) arrays, symmetric or Hermitian
        S must be positive definite; D may be singular.

    Returns
    -------
    (...,) real array
    """
    factor = jnp.linalg.cholesky(model)
    half = jax.scipy.linalg.solve_triangular(factor, data.astype(factor.dtype), lower=True)
    whole = jax.scipy.linalg.solve_triangular(factor, _adjoint(half), lower=True)
    log_det = 2.0 * jnp.sum(jnp.log(jnp.real(_diagonal(factor))), axis=-1)
    return log_det + jnp.real(jnp.sum(_diagonal(whole), axis=-1))


@divergence.defjvp
def _divergence_jvp(primals: tuple, tangents: tuple) -> tuple:
    """
    Tangent ``tr((S^-1 - S^-1 D S^-1) dS) + tr(S^-1 dD)``.

    Cheaper than through the factor, and exact to any order: the inverse is differentiated as such.
    """
    model, data = primals
    d_model, d_data = tangents
    inverse = jnp.linalg.inv(0.5 * (model + _adjoint(model)))
    slope = inverse - inverse @ data @ inverse
    change = jnp.einsum("...ij,...ji->...", slope, d_model) + jnp.einsum("...ij,...ji->...", inverse, d_data)
    return divergence(model, data), jnp.real(change)


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _diagonal(x: jax.Array) -> jax.Array:
    return jnp.diagonal(x, axis1=-2, axis2=-1)


def whittle(model_csd: Any, data_csd: Any, n_tapers: Any) -> jax.Array:
    """
    Negative log-likelihood of cross-spectra: ``sum_f K (log det S(f) + tr(S(f)^-1 D(f)))``.

    The K-fold average D of independent (multitaper or Bartlett) cross-spectral estimates is a complex Wishart
    matrix of K degrees of freedom around the spectrum S of the process (Whittle 1953; Brillinger 1981); what
    does not depend on the model is left out. With one region this is Whittle's likelihood of a periodogram.

    Parameters
    ----------
    model_csd : (f, n, n) complex array
        Cross-spectral density of the model, positive definite at every frequency.
    data_csd : (f, n, n) complex array
        That of the data, in the same unit and as two-sided as that of the model. It may be singular (K < n).
    n_tapers : number or (f,) array
        K, estimates that were averaged; frequencies must be far enough apart to be independent.

    Returns
    -------
    scalar
        NaN, inside of ``jit`` and its like, where the spectrum of the model is not positive definite.

    Raises
    ------
    ValueError
        The result is not finite; outside of tracing.
    """
    value = jnp.sum(n_tapers * divergence(jnp.asarray(model_csd), jnp.asarray(data_csd)))
    check_result(value, "whittle")
    return value


def effective_dof(x: jax.Array) -> jax.Array:
    """
    Independent samples that would give correlations of the same sampling variance (Bartlett 1946).

    The same number as `brainloom.analysis.dof.effective_dof`, summed over realisations, for traced signals too.

    Parameters
    ----------
    x : (time, realisation, region) array, at least two regions
    """
    n, _, n_regions = x.shape
    centred = centre(x)
    spectrum = jnp.abs(jnp.fft.rfft(centred, 2 * n, axis=0)) ** 2
    lags = jnp.fft.irfft(spectrum, 2 * n, axis=0)[: max(1, n // 4) + 1]
    rho = lags[1:] / jnp.where(lags[0] > 0.0, lags[0], 1.0)
    pairs = jnp.sum(jnp.sum(rho, axis=2) ** 2 - jnp.sum(rho**2, axis=2), axis=0) / (
        n_regions * (n_regions - 1)
    )
    return jnp.sum(jnp.clip(n / jnp.maximum(1.0 + 2.0 * pairs, 1.0), 1.0, n))


def gaussian(sd: Any = None) -> Objective:
    """
    Negative log-likelihood of a signal whose noise is independent and normal, summed over all samples.

    Parameters
    ----------
    sd : number, array or Quantity, optional
        Standard deviation of the noise, in the unit of the target; it broadcasts against the signal. Without it the
        prediction must be `Normal(mean, sd)`, whose noise can be fitted.
    """
    return Objective("gaussian", _gaussian, sd=sd)


def _gaussian(prediction: Any, target: Any, who: str, sd: Any) -> jax.Array:
    mean = prediction
    if is_feature(prediction, who, "prediction", Normal):
        mean, sd = prediction.mean, prediction.sd
        is_feature(mean, who, "prediction")
    is_feature(target, who, "target")
    if sd is None:
        raise ValueError(
            "gaussian needs the noise: give sd, or objectives.Normal(mean, sd) as the prediction"
        )
    (a, unit), (b, wanted), (noise, unit_sd) = split_unit(mean), split_unit(target), split_unit(sd)
    same_shape(a, b, who)
    check_finite(mean, who, "prediction")
    check_finite(target, who, "target")
    a = a * scale_to(unit, wanted)
    if isinstance(sd, u.Quantity):
        noise = noise * scale_to(unit_sd, wanted)
    given = known(sd)
    if given is not None and not (given > 0.0).all():
        raise ValueError("the standard deviation of the noise of gaussian must be positive")
    score = 0.5 * ((a - b) / noise) ** 2 + jnp.log(noise)
    return jnp.sum(score) + 0.5 * float(np.log(2.0 * np.pi)) * b.size


def wishart(dof: Any = None, *, correlation: bool = False, ridge: float = 0.0) -> Objective:
    """
    Negative log-likelihood of a sample covariance D: ``nu / 2 (log det S + tr(S^-1 D))``, S that of the prediction.

    Takes `Covariance` or signals (time, ..., region), whose covariance is averaged over realisations. What does not
    depend on the prediction is left out.

    Parameters
    ----------
    dof : number, optional
        Degrees of freedom nu: those of the `Covariance` of the target by default, or Bartlett's effective number of
        samples of a signal. Samples that depend on each other count less than their number.
    correlation : bool
        Correlations instead of covariances on both sides, which takes `FC` too.
    ridge : float
        Share of the mean variance that is added to the variances of the prediction, for one that is singular.
    """
    return Objective("wishart", _wishart, dof=dof, correlation=correlation, ridge=float(ridge))


def _wishart(prediction: Any, target: Any, who: str, dof: Any, correlation: bool, ridge: float) -> jax.Array:
    a, unit, _ = read_covariance(prediction, who, "prediction", correlation, ridge == 0.0)
    b, wanted, own = read_covariance(target, who, "target", correlation, False)
    same_shape(a, b, who)
    nu = own if dof is None else dof
    if nu is None:
        raise ValueError(
            "wishart needs the degrees of freedom: give dof, or objectives.Covariance(matrix, dof)"
        )
    a = a * scale_to(unit, wanted)
    a = a + ridge * jnp.mean(jnp.diagonal(a)) * jnp.eye(len(a), dtype=a.dtype)
    return 0.5 * jnp.asarray(nu) * divergence(a, b)


def read_covariance(
    value: Any, who: str, role: str, correlation: bool, regular: bool
) -> tuple[jax.Array, u.Unit, Any]:
    """Covariance or correlation, its unit, and degrees of freedom if they are known."""
    if is_feature(value, who, role, *([Covariance, FC] if correlation else [Covariance])):
        matrix, unit = read_matrix(value.matrix, who, role)
        if correlation and isinstance(value, Covariance):
            spread = jnp.sqrt(jnp.diagonal(matrix))
            matrix, unit = matrix / jnp.outer(spread, spread), u.UNITLESS
        return matrix, unit, getattr(value, "dof", None)
    x, unit = read_signal(value, who, role, Covariance)
    if regular and (x.shape[0] - 1) * x.shape[1] < x.shape[2]:
        raise ValueError(
            f"the {role} of {who} has {x.shape[0]} samples of {x.shape[2]} regions, so its covariance is singular; "
            "give more samples, or a ridge"
        )
    dof = jax.lax.stop_gradient(effective_dof(x)) if x.shape[2] > 1 else None
    if correlation:
        return functional_connectivity(x), u.UNITLESS, dof
    centred = centre(x)
    found = jnp.einsum("tbi,tbj->ij", centred, centred) / ((x.shape[0] - 1) * x.shape[1])
    return found, unit**2, dof


def cross_spectra(n_tapers: Any = None) -> Objective:
    """
    Negative log-likelihood of cross-spectra (`whittle`) as an objective on `CSD` at the same frequencies.

    Parameters
    ----------
    n_tapers : number or (frequency,) array, optional
        Independent estimates that were averaged; those of the `CSD` of the target by default.
    """
    return Objective("cross_spectra", _cross_spectra, n_tapers=n_tapers)


def _cross_spectra(prediction: Any, target: Any, who: str, n_tapers: Any) -> jax.Array:
    found = []
    for value, role in ((prediction, "prediction"), (target, "target")):
        if not is_feature(value, who, role, CSD):
            raise TypeError(
                f"the {role} of {who} is a plain array; write objectives.CSD(frequency, values, n_tapers)"
            )
        values, unit = split_unit(value.values)
        frequency = known(value.frequency)
        if (
            values.ndim != 3
            or values.shape[1] != values.shape[2]
            or jnp.shape(split_unit(value.frequency)[0]) != values.shape[:1]
        ):
            raise ValueError(
                f"the {role} of {who} has values of shape {values.shape} at {np.shape(value.frequency)} frequencies; they must "
                "be (frequency, region, region) and (frequency,)"
            )
        check_finite(value.values, who, role)
        found.append((values, unit, frequency))
    (a, unit, f_a), (b, wanted, f_b) = found
    same_shape(a, b, who)
    if f_a is not None and f_b is not None and not np.allclose(f_a, f_b, rtol=1e-6):
        raise ValueError(
            "cross_spectra compares spectra at the same frequencies; evaluate the model at those of the data"
        )
    count = target.n_tapers if n_tapers is None else n_tapers
    if count is None:
        raise ValueError(
            "cross_spectra needs n_tapers: give it, or objectives.CSD(frequency, values, n_tapers)"
        )
    return jnp.sum(count * divergence(a * scale_to(unit, wanted), b))
