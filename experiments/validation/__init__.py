"""Validations of the physical laws against measured courses, a module each.

Each has ``add_arguments(parser)`` and ``run(options)``, which returns an `experiments.calibration.Outcome`.
"""
