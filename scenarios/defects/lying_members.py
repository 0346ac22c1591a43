"""A village that trusts every member of a committee that bears liars: two ways to be held by one of them."""

from __future__ import annotations

from typing import Any

from policies.coordination import Coordination
from policies.serving import Worker


class FollowsAnyLeader(Worker):
    """A worker follows whoever says that it leads: a member that leads nobody keeps it from its work.

    Breaks `checks.requests.fresh_requests_are_answered` beside a member that usurps.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "liars": False})


class WatchesNobody(Coordination):
    """Members that follow do not ask what became of requests: a leader may order commands and do no work.

    Breaks `checks.requests.fresh_requests_are_answered` beside a leader that gives out nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owed = None
