"""A coordinator of tasks and its agents, which clients give more to do than fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from experiments.hunt.arena import CORRECT, MessageArena, Play
from policies import port as p
from policies.config import TasksConfig
from policies.jobs import Done, Job, SessionJob, Stage
from policies.port import NS_PER_MS, NS_PER_S, Policy
from policies.rng import Rng
from policies.tasks import Coordinator, TaskAgent
from policies.tasks.messages import BACKGROUND, CRITICAL, HIGH, Capability, Submit
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check, tasks
from scenarios.defects.tasks import DEFECTS, EXPECTS
from scenarios.schema import ScenarioError
from scenarios.trial import Trial
from sim.world import Jobs, Node, StepCost

_job: Any = msgspec.msgpack.Decoder(Job).decode

SCALE = 1 / 200
_DOCUMENTED = TasksConfig()
TIMES = TasksConfig(
    heartbeat_s=_DOCUMENTED.heartbeat_s * SCALE, offline_after_s=_DOCUMENTED.offline_after_s * SCALE,
    poll_s=_DOCUMENTED.poll_s * SCALE, report_s=_DOCUMENTED.report_s * SCALE,
    ageing_s=_DOCUMENTED.ageing_s * SCALE, patience_s=_DOCUMENTED.patience_s * SCALE,
)  # fmt: skip
"""The documented time constants run two hundred times faster here, all of them, so that their ratios stay."""
QUEUE_PER_AGENT = 10
"""Open tasks that the queue holds for each agent, so that it is full in some seeds: 3 slots take 2 s to empty it."""
CALM_MIN_S = 5.0
"""So long a calm every accepted task needs to end: a full queue, after the longest lease and patience."""

TOKEN_MS = 20
"""An executor's time a token (assumption: a small model on a laptop)."""
SKILLS = (("coding", "research"), ("coding", "testing"), ("research", "testing"), ("coding", "research", "testing"))
"""What the agents can do, in turn; names of the documented aliases."""
LOOK_S, STEPS_MAX = 0.5, 6000
"""The world counts its steps so often. A busy correct village takes a hundred in that time, and up to two thousand when
its coordinator wakes after a long pause; a node that turns round takes fifteen thousand."""
CALM_ASK_S, CALM_GAP_S = 1.0, 0.5
"""The first task of the calm is asked so long after its beginning, and asked again so often."""


class Cost(StepCost):
    """A machine that is a hundred times slower at most, however many spells slow it.

    Spells multiply. Three at once on the coordinator would make a single step last longer than the whole calm, and no
    policy can do in the calm what its machine does not let it begin.
    """

    def times(self, factor: float) -> StepCost:
        """Return the cost of the slower machine."""
        return super().times(min(factor, 100.0))


class Executors:
    """Runs jobs: a session takes its tokens' time, longer on a slow node; an executor runs any number side by side."""

    def __init__(self, play: Play) -> None:
        self.play = play

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Start a job."""
        job = _job(payload)
        slower = node.cost.base_ns / StepCost().base_ns
        ends_ns = self.play.now_ns + int(job.new_tokens * TOKEN_MS * NS_PER_MS * slower)
        done = encode(Done(job.op, job.new_tokens, 0))
        self.play.world.give_at(ends_ns, node, (p.JOB, path, job_id, done))

    def cancel(self, node: Node, job_id: int) -> None:
        """Nothing to do: what a Cell gave up it does not hear of."""

    def node_down(self, node: Node) -> None:
        """Nothing to do: what was scheduled in an earlier life is void."""


class TasksArena(MessageArena):
    """One coordinator, n0, and agents; tasks come alone, in chains, in circles and in bursts."""

    name = "tasks"
    what = "a coordinator of tasks with dependencies and its agents, which crash, pause and fall silent"
    defects: ClassVar[Mapping[str, str]] = {name: (kind.__doc__ or "").split("\n")[0] for name, kind in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = EXPECTS
    canary = "g03_forward"
    shape = Trial(arena="tasks", nodes=5, requests=60, storm_s=8.0, calm_s=6.0)
    fewest = 2
    kinds = (
        f.Crash, f.Pause, f.Slow, f.Clock, f.Cascade, *f.NETWORKS, f.SlowDisk, f.FailingDisk, f.FullDisk,
    )  # fmt: skip

    def check(self, trial: Trial) -> None:
        """Refuse a trial that this arena cannot run, also one whose calm is too short for any policy."""
        super().check(trial)
        if trial.calm_s < CALM_MIN_S:
            raise ScenarioError(f"calm_s={trial.calm_s}: arena {self.name} needs at least {CALM_MIN_S}")

    def committee(self, trial: Trial) -> int:
        """The coordinator alone."""
        return 1

    def leader(self, play: Play) -> str:
        """The coordinator, whom faults of the leader strike."""
        return "n0"

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount the coordinator, or an agent."""
        if name == "n0":
            kind = Coordinator if trial.policy == CORRECT else DEFECTS[trial.policy]
            return {"tasks": kind(msgspec.structs.replace(TIMES, queue_max=QUEUE_PER_AGENT * (trial.nodes - 1)))}
        number = int(name[1:]) - 1
        skills = [Capability(skill, 0.8 - 0.1 * place) for place, skill in enumerate(SKILLS[number % len(SKILLS)])]
        return {"agent": TaskAgent(TIMES, "n0", skills, specialist=number % len(SKILLS) == 0)}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of task coordination."""
        safety = tasks.safety(TIMES.slots, TIMES.ageing_s, TIMES.offline_after_s, STEPS_MAX)
        return *safety, *tasks.liveness(), *tasks.rare()

    def jobs(self, play: Play) -> Jobs:
        """Return the agents' executors."""
        return Executors(play)

    def started(self, play: Play, node: Node) -> None:
        """Bound how slow a machine gets, begin to look at the world's clock, and plan what is asked in the calm."""
        if node.incarnation == 0:
            node.cost = Cost()
        if node.name == "n0" and node.incarnation == 0:
            play.memory["steps"] = 0
            play.world.engine.call_at(int(LOOK_S * NS_PER_S), self._look, play)
            if play.trial.requests:
                play.world.engine.call_at(int((play.trial.storm_s + CALM_ASK_S) * NS_PER_S), self._ask_in_calm, play)

    def _look(self, play: Play) -> None:
        steps = play.world.steps - play.memory["steps"]
        play.memory["steps"] += steps
        play.checks.tell(play.now_ns, "world", "steps", steps)
        play.world.engine.call_at(play.now_ns + int(LOOK_S * NS_PER_S), self._look, play)

    def _ask_in_calm(self, play: Play) -> None:
        play.checks.tell(play.now_ns, "n0", "asked_in_calm", "calm")
        self._submit(play, _task("calm", CRITICAL, (), (), 10))
        play.world.engine.call_at(play.now_ns + int(CALM_GAP_S * NS_PER_S), self._ask_in_calm, play)

    def ask(self, play: Play, number: int) -> None:
        """Submit some tasks: one, a chain whose end comes first, a circle, or a burst; one in five is asked twice."""
        rng = Rng(play.trial.seed, self.name, "clients", number)
        name, luck = f"t{number}", rng.random()
        if luck < 0.5:
            asked = [_drawn(rng, name, ())]
        elif luck < 0.8:
            asked = [_drawn(rng, f"{name}b", (f"{name}a",)), _drawn(rng, f"{name}a", ())]
        elif luck < 0.87:
            asked = [_drawn(rng, f"{name}b", (f"{name}a",)), _drawn(rng, f"{name}a", (f"{name}b",))]
        else:
            asked = [_drawn(rng, f"{name}x{k}", ()) for k in range(12)]
        for submit in asked:
            self._submit(play, submit)
            if rng.random() < 0.2:
                self._submit(play, submit)

    def _submit(self, play: Play, submit: Submit) -> None:
        play.request("n0", "tasks", "client", submit.task, encode(submit))


def _drawn(rng: Rng, name: str, dependencies: tuple[str, ...]) -> Submit:
    skill = rng.choice(("", "", "coding", "research", "testing"))
    priority = rng.choice((CRITICAL, BACKGROUND, HIGH + rng.below(3)))
    return _task(name, priority, (skill,) if skill else (), dependencies, 10 + rng.below(31))


def _task(name: str, priority: int, needs: tuple[str, ...], dependencies: tuple[str, ...], tokens: int) -> Submit:
    """Make a task whose estimate is right on a node that is not slow."""
    work = SessionJob(name, "small", (Stage("", 0, 1),), "prompt", "n0", 1, tokens, tokens)
    return Submit(name, priority, needs, dependencies, tokens * TOKEN_MS, work)
