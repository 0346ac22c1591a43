"""What every benchmark prints: one line a figure, with the bar it is held to and whether it meets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One figure of a benchmark.

    Attributes:
        key: its name in what the benchmark's `measure` returns.
        label: its name in the table, unit included.
        decimals: digits after the point.
        at_least, at_most: the bar, if there is one; None is no bar.
    """

    key: str
    label: str
    decimals: int = 0
    at_least: float | None = None
    at_most: float | None = None

    def meets(self, value: float) -> bool:
        """Whether the value is within the bar; what is not a number is within none."""
        high_enough = self.at_least is None or value >= self.at_least
        return high_enough and (self.at_most is None or value <= self.at_most)

    def row(self, value: float) -> str:
        """Return the line as text.

        >>> Line("rate", "ticks/s", at_least=10).row(12.0)
        'ticks/s                                                 12   at least 10: met'
        """
        text = f"{self.label:<44}{value:>14,.{self.decimals}f}"
        if self.at_least is None and self.at_most is None:
            return text
        sides = (("at least", self.at_least), ("at most", self.at_most))
        bars = ", ".join(f"{side} {bar:,}" for side, bar in sides if bar is not None)
        return f"{text}   {bars}: {'met' if self.meets(value) else 'MISSED'}"


def show(title: str, figures: Mapping[str, float], lines: tuple[Line, ...]) -> None:
    """Print a benchmark's table; lines that were not measured are left out, figures without a line come last."""
    print(title)
    for line in lines:
        if line.key in figures:
            print("  " + line.row(figures[line.key]))
    known = {line.key for line in lines}
    for key, value in figures.items():
        if key not in known:
            print("  " + Line(key, key).row(value))


def missed(figures: Mapping[str, float], lines: tuple[Line, ...]) -> list[str]:
    """Return the keys of the figures that miss their bar."""
    return [line.key for line in lines if line.key in figures and not line.meets(figures[line.key])]
