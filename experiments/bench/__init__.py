"""Benchmarks of the twin: each module measures one thing and prints one table."""
