"""The defects of the village's serving side by the names that the hunter calls them, and the promise each breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policies.coordination import Coordination
from policies.gateway import Gateway
from policies.serving import Worker
from policies.sharding import Plans, latency_dp
from scenarios.defects import g10, g11
from scenarios.defects.g04 import IgnoresPriority
from scenarios.defects.g06 import ForgetsTheOffline
from scenarios.defects.g07 import KeepsTheFailed
from scenarios.defects.g08 import ExemptsTheBusy, FailsWithTheNode
from scenarios.defects.g09 import ServesOneAtATime
from scenarios.defects.g12 import KeepsReservations, KeepsTheDead
from scenarios.defects.g22 import ForgetsTasks
from scenarios.defects.g34 import CountsByWindow
from scenarios.defects.lying_members import FollowsAnyLeader, WatchesNobody


@dataclass(frozen=True)
class Village:
    """The parts of a village that a defect may be in; the correct ones unless said otherwise."""

    coordination: type[Coordination] = Coordination
    gateway: type[Gateway] = Gateway
    plan: Plans = latency_dp.plan
    worker: type[Worker] = Worker

    @property
    def what(self) -> str:
        """What is wrong with it, in one line."""
        right = Village()
        parts: list[tuple[Any, Any]] = [
            (self.coordination, right.coordination), (self.gateway, right.gateway), (self.plan, right.plan),
            (self.worker, right.worker),
        ]  # fmt: skip
        *_, wrong = [part for part, correct in parts if part is not correct]  # a leader may only believe what is wrong
        return (wrong.__doc__ or "").split(":")[0].split(".\n")[0].strip().replace("\n    ", " ")


DEFECTS: dict[str, Village] = {
    "g04": Village(coordination=IgnoresPriority),
    "g06": Village(coordination=ForgetsTheOffline),
    "g07": Village(coordination=KeepsTheFailed),
    "g08_busy": Village(coordination=ExemptsTheBusy),
    "g08_loss": Village(coordination=FailsWithTheNode),
    "g09": Village(coordination=ServesOneAtATime),
    "g10": Village(plan=g10.plan, coordination=g10.BelievesItsPlanner),
    "g11_network": Village(plan=g11.blind),
    "g11_missing": Village(plan=g11.skipping, coordination=g10.BelievesItsPlanner),
    "g11_memory": Village(plan=g11.overcommitted),
    "g12_dead": Village(coordination=KeepsTheDead),
    "g12_reserved": Village(coordination=KeepsReservations),
    "g22": Village(coordination=ForgetsTasks),
    "g34": Village(gateway=CountsByWindow),
}

OF_LIARS: dict[str, Village] = {
    "follows_any_leader": Village(worker=FollowsAnyLeader),
    "watches_nobody": Village(coordination=WatchesNobody),
    "g07": DEFECTS["g07"],
    "g34": DEFECTS["g34"],
}
"""What is to be caught where a member may lie."""

EXPECTS: dict[str, str] = {
    "g04": "nobody_is_overtaken", "g06": "capacity_recovers", "g07": "fresh_requests_are_answered",
    "g08_busy": "leases_end", "g08_loss": "lost_only_after_all_tries", "g09": "free_slots_are_used",
    "g10": "shards_cover_the_model", "g11_network": "planned_latency_counts_all",
    "g11_missing": "shards_cover_the_model", "g11_memory": "shards_fit_the_memory",
    "g12_dead": "pipelines_have_their_workers", "g12_reserved": "capacity_recovers", "g22": "every_request_ends",
    "g34": "gateway_admits_within_its_rate", "follows_any_leader": "fresh_requests_are_answered",
    "watches_nobody": "fresh_requests_are_answered",
}  # fmt: skip
