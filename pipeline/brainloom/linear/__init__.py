"""Linear-noise theory of networks: fixed points, Jacobians, stationary moments and spectra."""
