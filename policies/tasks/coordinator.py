"""The coordinator: accepts tasks, gives them to agents that can do them, and sees each of them to its end.

Agents live by leases: whoever heartbeats is there, whoever was silent for ``offline_after_s`` is not, gets nothing
new, and its tasks are taken back; its next heartbeat brings it back. An attempt that is overdue, or whose agent
started anew, is taken back too; after ``tries`` attempts the task fails with a reason. The first good end of any
attempt is the task's end, also a late one; all others are noted and change nothing.

Messages are lost: heartbeats name what an agent holds, and what does not agree is said again then. What was accepted,
and how it stands, is durable before anybody is told. The roster is not: a restart learns it from heartbeats.

A step is bounded: a pass goes over the queue once, and what cannot be assigned waits for the next event. The
predecessor gave a task to up to two agents; here it is one, since a second would do the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from policies.config import TasksConfig
from policies.port import NS_PER_MS, NS_PER_S, Policy
from policies.tasks import messages as m
from policies.tasks.book import ASSIGNED, DONE, FAILED, FORGOTTEN, WAITING, WORKING, Book, Task
from policies.tasks.commit import GroupCommit
from policies.tasks.roster import Agent
from policies.wire import Message

AGENT = "agent"  # the path of an agent


class Coordinator(Policy):
    """Coordinates all agents of a village; one node runs it.

    Attributes:
        book: the tasks.
        out: what is to be durable, and what waits for it.
        agents: the roster, by name.
    """

    messages = (m.Register, m.Heartbeat, m.Started, m.Finished)
    requests = (m.Submit,)
    book_class: ClassVar[type[Book]] = Book

    def __init__(self, config: TasksConfig) -> None:
        self.config = config
        self._silence_ns = int(config.offline_after_s * NS_PER_S)
        self.agents: dict[str, Agent] = {}
        self.book = self._empty()

    def _empty(self) -> Book:
        return self.book_class(int(self.config.ageing_s * NS_PER_S), self.config.ended_max)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Go on with the tasks of the disk; who holds one has a whole lease to be heard of."""
        self.agents, self.book, self.out = {}, self._empty(), GroupCommit(self.port)
        self.book.restore(saved, self.port.now)
        for task in self.book.tasks.values():
            self._announce(task, again=True)
            if task.state == ASSIGNED:
                task.due_ns = self._due_ns(task)
                agent = self.agents.setdefault(task.agent, Agent(task.agent, self.port.now))
                agent.held.add(task.name)
            elif not task.open:
                self.out.decide("ended", m.Ended(task.name, task.reason, again=True))
        self.port.set_timer("poll", int(self.config.poll_s * NS_PER_S))
        self.port.set_timer("report", int(self.config.report_s * NS_PER_S))
        self.out.flush()

    def on_durable(self, token: int) -> None:
        """What was decided meanwhile may follow."""
        self.out.durable(token)

    # -- clients -------------------------------------------------------------------------------------

    def on_request(self, client: str, op_id: str, operation: m.Submit) -> None:
        """Accept a task, refuse it with a reason, or tell how it stands."""
        self.out.reply(client, op_id, self._submit(operation))
        self.out.flush()

    def _submit(self, operation: m.Submit) -> m.Answer:
        task = self.book.tasks.get(operation.task)
        if task is not None and task.submit == operation:
            self._asked_again(task)
            return m.Answer(task.name, task.state, task.reason)
        reason = self._refusal(operation)
        if reason:
            self.out.decide("turned", m.Turned(operation.task, reason))
            return m.Answer(operation.task, "refused", reason)
        task = self.book.accept(operation, self.port.now)
        self._save(task)
        self._announce(task)
        self._pass()
        return m.Answer(task.name, WAITING, "")

    def _asked_again(self, task: Task) -> None:
        """A client asks for a task that it has submitted before: nothing changes."""

    def _refusal(self, submit: m.Submit) -> str:
        if submit.task in self.book.tasks:
            return "another task has this name"
        if len(self.book.open) >= self.config.queue_max:
            return f"{self.config.queue_max} tasks are open"
        if len(set(submit.dependencies)) < len(submit.dependencies):
            return "a dependency is named twice"
        circle = self.book.circle(submit)
        if circle:
            return f"dependencies go round: {' waits for '.join(circle)}"
        failed = [name for name in submit.dependencies if name in self.book.tasks]
        failed = [name for name in failed if self.book.tasks[name].state == FAILED]
        return f"dependency {failed[0]} has failed" if failed else ""

    # -- agents --------------------------------------------------------------------------------------

    def on_message(self, sender: str, message: Any) -> None:
        """An agent speaks."""
        if isinstance(message, m.Register):
            self._on_register(sender, message)
        elif isinstance(message, m.Heartbeat):
            self._on_heartbeat(sender, message)
        elif isinstance(message, m.Started):
            self._on_started(sender, message)
        else:
            self._on_finished(sender, message)
        self.out.flush()

    def _on_register(self, name: str, message: m.Register) -> None:
        agent = self.agents.get(name)
        if agent is None:
            if len(self.agents) >= self.config.agents_max and not self._forget_one():
                return
            agent = self.agents[name] = Agent(name, self.port.now)
            self.out.decide("presence", m.Presence(name, True, first=True))
        if message.boot < agent.boot:
            return  # a late copy, of an earlier life
        agent.learn(
            message.boot, message.capabilities, min(message.slots, self.config.slots), message.specialist
        )  # fmt: skip
        self._renew(agent)
        self._new_life(agent, message.boot)
        self._pass()

    def _forget_one(self) -> bool:
        """Make room for a newcomer: forget whoever is gone and was silent longest, if anybody is; say if one was."""
        gone = [one for one in self.agents.values() if not one.there and not one.held]
        if gone:
            del self.agents[min(gone, key=lambda one: one.heard_ns).name]
        return bool(gone)

    def _on_heartbeat(self, name: str, message: m.Heartbeat) -> None:
        agent = self.agents.get(name)
        if agent is None or message.boot > agent.boot:
            self._to_agent(name, m.Unknown())
            return
        if message.boot < agent.boot:
            return
        self._renew(agent)
        self._compare(agent, message)
        self._pass()

    def _renew(self, agent: Agent) -> None:
        agent.heard_ns = self.port.now
        self.out.decide("heard", m.Heard(agent.name, agent.heard_ns))
        if not agent.there:
            agent.there = True
            self.out.decide("presence", m.Presence(agent.name, True))

    def _new_life(self, agent: Agent, boot: int) -> None:
        for task in self._held(agent):
            if task.state == WORKING and task.boot < boot:
                self._take_back(task, "its agent started anew")

    def _compare(self, agent: Agent, message: m.Heartbeat) -> None:
        """Compare what an agent answers for with what it should hold."""
        for name, attempt in message.held:
            task = self.book.open.get(name)
            if task is None or (task.agent, task.attempt) != (agent.name, attempt):
                self._to_agent(agent.name, m.Drop(name, attempt))
            elif task.state == ASSIGNED:
                self._begin(task, message.boot)
        answered = {name for name, _ in message.held}
        for task in self._held(agent):
            if task.state == ASSIGNED and task.name not in answered:
                self._to_agent(agent.name, m.Assign(task.name, task.attempt, task.submit.work))

    def _held(self, agent: Agent) -> list[Task]:
        return [self.book.open[name] for name in sorted(agent.held)]

    # -- attempts ------------------------------------------------------------------------------------

    def _begin(self, task: Task, boot: int) -> None:
        """An attempt works."""
        if task.state == ASSIGNED:
            task.state, task.boot, task.due_ns = WORKING, boot, self._due_ns(task)

    def _due_ns(self, task: Task) -> int:
        return self.port.now + int(self.config.overdue_factor * task.submit.estimate_ms) * NS_PER_MS

    def _on_started(self, name: str, message: m.Started) -> None:
        task = self.book.open.get(message.task)
        if task is None or (task.agent, task.attempt) != (name, message.attempt):
            return
        if message.boot >= self.agents[name].boot:  # else it began in a life that is over
            self._begin(task, message.boot)

    def _on_finished(self, name: str, message: m.Finished) -> None:
        self._to_agent(name, m.Noted(message.task, message.attempt))
        task = self._awaited(message.task)
        if task is None or not 1 <= message.attempt <= task.attempt:
            return  # of an attempt that never was: another task had the name, long ago
        if not message.reason:
            if name in self.agents:
                self.agents[name].done += 1
            self._end(task, DONE, "")
            self._pass()
        elif (task.agent, task.attempt) == (name, message.attempt):
            self._take_back(task, message.reason)
            self._pass()

    def _awaited(self, name: str) -> Task | None:
        """Return a task whose end still counts."""
        return self.book.open.get(name)

    def _take_back(self, task: Task, reason: str) -> None:
        """An attempt came to nothing: let the task wait again, or fail when it has been tried often enough."""
        agent = self.agents[task.agent]
        agent.lost += 1
        self._to_agent(agent.name, m.Drop(task.name, task.attempt))
        if task.attempt >= self.config.tries:
            self._end(task, FAILED, f"{task.attempt} attempts, at last: {reason}")
            return
        agent.held.discard(task.name)
        self.out.decide("freed", m.Freed(task.name, agent.name, reason))
        self.book.take_back(task)
        self._save(task)

    def _end(self, task: Task, state: str, reason: str) -> None:
        """End a task, and those that wait for it in vain."""
        ending = [(task, state, reason)]
        while ending:
            task, state, reason = ending.pop()
            if not task.open and state == FAILED:
                continue  # it waited for two that failed
            if task.agent in self.agents:
                self.agents[task.agent].held.discard(task.name)
            vain = self.book.end(task, state, reason)
            self._save(task)
            self.out.decide("ended", m.Ended(task.name, reason))
            ending += [(other, FAILED, f"dependency {task.name} has failed") for other in vain]
        for name in (gone := self.book.forget()):
            self.out.erase(f"t/{name}")
        if gone:
            self.out.save(FORGOTTEN, self.book.totals())

    # -- the queue -----------------------------------------------------------------------------------

    def _pass(self) -> None:
        """Go over the queue once, the most urgent first, and assign what somebody free can do."""
        free = [agent for agent in self.agents.values() if self._may_get(agent)]
        for task in self.book.ready() if free else ():
            able = [agent for agent in free if agent.can(task.submit)]
            if not able:
                continue  # it waits for an event: an agent, or a slot
            agent = max(able, key=lambda one: (one.fitness(task.submit), one.name))
            self._assign(task, agent)
            if not self._may_get(agent):
                free.remove(agent)
                if not free:
                    return

    def _may_get(self, agent: Agent) -> bool:
        return agent.there and self.port.now - agent.heard_ns < self._silence_ns and self._room(agent) > 0

    def _room(self, agent: Agent) -> int:
        return agent.free

    def _assign(self, task: Task, agent: Agent) -> None:
        self.book.assign(task, agent.name, self._due_ns(task))
        agent.held.add(task.name)
        self._save(task)
        self.out.decide("assigned", m.Assigned(task.name, agent.name, task.attempt, self.port.now))
        self._to_agent(agent.name, m.Assign(task.name, task.attempt, task.submit.work))

    # -- timers --------------------------------------------------------------------------------------

    def on_timer(self, name: str) -> None:
        """Look at leases and time-outs, or report."""
        if name == "poll":
            self.port.set_timer("poll", int(self.config.poll_s * NS_PER_S))
            self._look_at_leases()
            for task in [task for task in self.book.open.values() if task.state in (ASSIGNED, WORKING)]:
                if self.port.now >= task.due_ns:
                    self._take_back(task, f"overdue on {task.agent}")
        else:
            self.port.set_timer("report", int(self.config.report_s * NS_PER_S))
            self._look_for_the_absent()
            self.out.decide("counts", self._counts())
        self._pass()
        self.out.flush()

    def _look_at_leases(self) -> None:
        for agent in self.agents.values():
            if agent.there and self.port.now - agent.heard_ns >= self._silence_ns:
                agent.there = False
                self.out.decide("presence", m.Presence(agent.name, False))
                for task in self._held(agent):
                    self._take_back(task, f"{agent.name} is silent")

    def _look_for_the_absent(self) -> None:
        """Fail tasks that wait for what has not existed for too long: a dependency, or an agent that can."""
        for task in list(self.book.open.values()):
            why = self._absent(task) if task.state == WAITING else ""  # may have ended with one before it
            if not why:
                task.lacks_since_ns = -1
            elif task.lacks_since_ns < 0:
                task.lacks_since_ns = self.port.now
            elif self.port.now - task.lacks_since_ns >= self.config.patience_s * NS_PER_S:
                self._end(task, FAILED, why)

    def _absent(self, task: Task) -> str:
        name = self.book.absent(task)
        if name:
            return f"dependency {name} was never submitted"
        if any(agent.there and agent.can(task.submit) for agent in self.agents.values()):
            return ""
        return f"nobody is there who can do {' and '.join(task.submit.needs) or 'anything'}"

    def _counts(self) -> m.Counts:
        working = sum(task.state == WORKING for task in self.book.open.values())
        slots = sum(agent.slots for agent in self.agents.values() if agent.there)
        return m.Counts(*self.book.counts(), working, slots)

    # -- saying --------------------------------------------------------------------------------------

    def _save(self, task: Task) -> None:
        self.out.save(f"t/{task.name}", task.record())

    def _announce(self, task: Task, again: bool = False) -> None:
        said, agent = task.submit, task.agent if task.open else ""
        self.out.decide(
            "taken", m.Taken(said.task, said.priority, said.needs, said.dependencies, task.at_ns, agent, again)
        )

    def _to_agent(self, name: str, message: Message) -> None:
        self.out.send(f"{name}/{AGENT}", message)
