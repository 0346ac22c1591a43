"""The laws of the village: pure functions over arrays in SI units.

Here live batteries, heat, power, links, failures, the cost of inference, the table of devices and keyed randomness.
Nothing in this folder keeps state, reads a clock or a file but its own tables, or knows which world calls it. A law
takes the state at the start of an interval and inputs held constant over it, and returns the state at its end in
closed form.
"""
