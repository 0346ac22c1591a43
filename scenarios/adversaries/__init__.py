"""Adversaries: an honest Cell with wrappers around it that filter inputs, rewrite effects and own the key handle.

`behaviours` says as data what a liar does, `attach` puts the wrappers around a Cell, `choose` says who lies. Drivers
of both worlds attach them alike, and a journal of a liar holds what entered and left its outermost wrapper.
"""
