"""Figures that others published, made anew in the twin: their number, ours, and the error."""
