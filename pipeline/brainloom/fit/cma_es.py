"""Covariance matrix adaptation: a search that learns the shape of the valley from ranks alone."""

from __future__ import annotations

import numpy as np


class CMAES:
    """
    CMA-ES with cumulative step-size adaptation and rank-one and rank-mu updates of the covariance.

    Samples of a generation follow from the seed and its number alone, so nothing but the losses is needed to
    repeat a search.

    Parameters
    ----------
    mean : (size,) array
        Where to begin; it is the first point of the first generation.
    sigma : float
        Standard deviation of the first generation.
    population : int
        Points of a generation.
    seed : list of int

    References
    ----------
    Hansen 2016, The CMA evolution strategy: a tutorial, arXiv:1604.00772.

    Examples
    --------
    >>> search = CMAES(np.ones(3), 0.5, 8, [0])
    >>> for _ in range(80):
    ...     points = search.ask()
    ...     search.tell((points**2).sum(axis=1))
    >>> bool((abs(search.mean) < 1e-4).all())
    True
    """

    def __init__(self, mean: np.ndarray, sigma: float, population: int, seed: list[int]) -> None:
        n = len(mean)
        self.mean, self.sigma, self.generation = np.array(mean, float), float(sigma), 0
        self._seed, self._population = list(seed), population
        half = population // 2
        weights = np.log((population + 1) / 2) - np.log(np.arange(1, half + 1))
        self._weights = weights / weights.sum()
        mass = 1.0 / np.sum(self._weights**2)
        self._c_sigma = (mass + 2.0) / (n + mass + 5.0)
        self._damping = 1.0 + 2.0 * max(0.0, np.sqrt((mass - 1.0) / (n + 1.0)) - 1.0) + self._c_sigma
        self._c_c = (4.0 + mass / n) / (n + 4.0 + 2.0 * mass / n)
        self._c_1 = 2.0 / ((n + 1.3) ** 2 + mass)
        self._c_mu = min(1.0 - self._c_1, 2.0 * (mass - 2.0 + 1.0 / mass) / ((n + 2.0) ** 2 + mass))
        self._mass = mass
        self._length = np.sqrt(n) * (
            1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n**2)
        )  # of a standard normal vector
        self._covariance = np.eye(n)
        self._axes, self._sizes = np.eye(n), np.ones(n)
        self._path_sigma, self._path = np.zeros(n), np.zeros(n)
        # eigenvectors are found so seldom that they cost no more than the updates
        self._every = max(1, int(1.0 / (10.0 * n * (self._c_1 + self._c_mu))))

    def ask(self) -> np.ndarray:
        """The points of this generation, (population, size)."""
        rng = np.random.default_rng([*self._seed, self.generation])
        z = rng.standard_normal((self._population, len(self.mean)))
        if self.generation == 0:
            z[0] = 0.0
        self._steps = (z * self._sizes) @ self._axes.T
        return self.mean + self.sigma * self._steps

    def tell(self, losses: np.ndarray) -> None:
        """Learn from the losses of the points of `ask`; what is not finite is worst."""
        n = len(self.mean)
        order = np.argsort(np.where(np.isfinite(losses), losses, np.inf), kind="stable")
        steps = self._steps[order[: len(self._weights)]]
        step = self._weights @ steps
        self.mean = self.mean + self.sigma * step
        self.generation += 1
        white = self._axes @ ((self._axes.T @ step) / self._sizes)
        keep = 1.0 - self._c_sigma
        self._path_sigma = (
            keep * self._path_sigma + np.sqrt(self._c_sigma * (2.0 - self._c_sigma) * self._mass) * white
        )
        size = float(np.linalg.norm(self._path_sigma))
        expected = np.sqrt(1.0 - keep ** (2 * self.generation)) * self._length
        moving = size / expected < 1.4 + 2.0 / (n + 1.0)  # long paths would stretch the covariance too fast
        self._path = (1.0 - self._c_c) * self._path
        if moving:
            self._path += np.sqrt(self._c_c * (2.0 - self._c_c) * self._mass) * step
        lost = 0.0 if moving else self._c_1 * self._c_c * (2.0 - self._c_c)
        self._covariance = (
            (1.0 - self._c_1 - self._c_mu + lost) * self._covariance
            + self._c_1 * np.outer(self._path, self._path)
            + self._c_mu * (steps.T * self._weights) @ steps
        )
        self.sigma *= float(np.exp(min(1.0, self._c_sigma / self._damping * (size / self._length - 1.0))))
        if self.generation % self._every == 0:
            symmetric = 0.5 * (self._covariance + self._covariance.T)
            values, self._axes = np.linalg.eigh(symmetric)
            self._sizes = np.sqrt(np.maximum(values, 1e-14 * values.max()))

    def width(self) -> float:
        """Largest standard deviation of the next generation along a coordinate."""
        return self.sigma * float(np.sqrt(np.diag(self._covariance).max()))
