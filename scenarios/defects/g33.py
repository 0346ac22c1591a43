"""G33, message bus: a transport's False taken for success, and one breaker for all transports."""

from __future__ import annotations

from policies.transport.bus import Bus
from policies.transport.messages import Carried


class TakesFalseForSuccess(Bus):
    """Its predecessor's breaker counted exceptions only: a send that returned False was a success.

    So the breaker stays closed however often the transport says no. Breaks `an_open_breaker_rests` between
    two nodes whose transport answers False, and `acknowledged_is_delivered_in_the_end` with it.
    """

    def succeeded(self, answer: Carried) -> bool:
        """Return that no exception was raised."""
        return True


class SharesOneBreaker(Bus):
    """Its predecessor kept one breaker for the bus, so that one dead transport closed the way to all.

    Breaks `everything_arrives` among three nodes in reach of one another's radios whose long-range transport answers
    False: letters wait for its pause although the mesh would carry them. In the hunt `an_open_breaker_rests` mostly
    fails first: each letter that the mesh brings takes the count of the other's failures back to nought.
    """

    def breaker_of(self, transport: str, to: str) -> tuple[str, str]:
        """Return the one breaker."""
        return "", ""


DEFECTS: dict[str, tuple[type[Bus], str]] = {
    "g33_false": (TakesFalseForSuccess, "a transport's False is taken for success, so its breaker stays closed"),
    "g33_one_breaker": (SharesOneBreaker, "one breaker for all transports: one that is dead closes the way to all"),
}
"""Defect's name to its mutant, and what is wrong with it."""
