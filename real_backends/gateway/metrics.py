"""What the endpoint counts, in Prometheus' text form.

Source of the form: Prometheus documentation, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # Prometheus' default buckets, longer ones for us

HELP = {
    "requests_total": "Requests that ended, by endpoint and HTTP status.",
    "prompt_tokens_total": "Tokens of prompts that were taken in.",
    "completion_tokens_total": "Tokens sent to clients.",
    "given_up_total": "Requests whose client went away before their end.",
    "smaller_model_total": "Answers that another model than the one asked for gave, or ended.",
    "repeated_tokens_total": "Tokens that came again, from a request that was run again, and were not sent twice.",
    "differing_tokens_total": "Tokens that came again and were not those sent before.",
}


class Histogram:
    """Counts of durations, seconds."""

    def __init__(self) -> None:
        self.counts, self.total_s = [0] * (len(BOUNDS_S) + 1), 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def lines(self, name: str, text: str) -> list[str]:
        """Return its lines."""
        lines, below = [f"# HELP {name} {text}", f"# TYPE {name} histogram"], 0
        for bound, count in zip((*(f"{b:g}" for b in BOUNDS_S), "+Inf"), self.counts, strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{name}_sum {self.total_s:.6f}", f"{name}_count {below}"]


class Metrics:
    """All counts of one endpoint."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.open = 0
        self.first_token = Histogram()
        self.duration = Histogram()

    def text(self, up: Mapping[str, bool]) -> str:
        """Return everything, with which nodes are up."""
        lines: list[str] = []
        for name, help_text in HELP.items():
            full = f"villagetwin_{name}"
            lines += [f"# HELP {full} {help_text}", f"# TYPE {full} counter"]
            if name == "requests_total":
                lines += [
                    f'{full}{{endpoint="{endpoint}",status="{status}"}} {count}'
                    for (endpoint, status), count in sorted(self.requests.items())
                ]
            else:
                lines.append(f"{full} {self.counts[name]}")
        lines += ["# HELP villagetwin_requests_open Requests under way.", "# TYPE villagetwin_requests_open gauge"]
        lines.append(f"villagetwin_requests_open {self.open}")
        lines += ["# HELP villagetwin_node_up Whether a node's process runs.", "# TYPE villagetwin_node_up gauge"]
        lines += [f'villagetwin_node_up{{node="{node}"}} {int(is_up)}' for node, is_up in sorted(up.items())]
        lines += self.first_token.lines("villagetwin_first_token_seconds", "From a request to the first token sent.")
        lines += self.duration.lines("villagetwin_request_seconds", "From a request to the end of its answer.")
        return "\n".join(lines) + "\n"
