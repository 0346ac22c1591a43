"""The gap: what the calibrated twin predicts against what a local cluster measured, and how much of it is noise.

- `predict`: the same scenario, arrivals and lengths in the twin;
- `errors`: paired errors of requests, their quantiles with intervals, and totals;
- `verdict`: the bars, and when a machine is too noisy to judge by them;
- `order`: whether the twin orders policies as the cluster does, and what its choice costs;
- `quiet`: how much of the host other programs took, and whether it drifted;
- `study`, `rounds`: many policies on many scenarios, repeated, resumable; `page` writes what came out.
"""
