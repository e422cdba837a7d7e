"""The base of everything: denoiser, schedule, the linear state machine and its loop, noise, the definition of a solver."""
