"""The simulated village: a scenario becomes a world, runs, and leaves a `Record`."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from policies import port as p
from policies import village
from policies.consensus.messages import Chosen
from policies.port import NS_PER_S, Effect, Keys, Policy
from policies.readings import HARVEST_STATES, Row, Verdict
from policies.wire import digest, encode
from policies.work import Capability, SettledOp
from scenarios import hosts
from scenarios.adversaries.choose import choose, play, with_role
from scenarios.adversaries.work import lies_in_pipelines
from scenarios.adversaries.wrapped import describe
from scenarios.checks import VillageChecks
from scenarios.checks.membership import ROSE, tell_fault
from scenarios.checks.progress import HEALED
from scenarios.checks.village import council_of
from scenarios.commits import Commits
from scenarios.council import electorate
from scenarios.digests import policies_manifest, versions
from scenarios.groups import groups_of
from scenarios.journal import Header, Journal
from scenarios.record import RECORD_VERSION, Record
from scenarios.schema import PRIORITIES, Scenario, Shaped, to_plain
from scenarios.traces import read_replay
from scenarios.workload import requests
from sim import machines
from sim.abstractions import fidelity
from sim.answers import answer_digest
from sim.around import VillageAround
from sim.checking import Checking
from sim.clients import Asked, Clients
from sim.compute import Compute
from sim.faults import Faults
from sim.fleet.ladders import Ladders
from sim.fleet.village import Fleet, chip_flops, inventory
from sim.guard import Guards
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.replays import Replays
from sim.trace import innermost
from sim.world import Node, World

Progress = Callable[[float, str], None]


def simulate(
    scenario: Scenario, *, progress: Progress | None = None, policy: Any = None, guards: Guards | None = None
) -> Record:
    """Run a scenario in the twin.

    Args:
        scenario: what happens.
        progress: called now and then with (share done, text).
        policy: what every node runs instead of the village: a Policy class that runs alone and serves no clients, or
            a function of `policies.village.NodeSpec` that returns policies by path.
        guards: nets under every step (`sim.guard`); None: steps run bare.

    Raises:
        PurityError: with guards, a policy is no pure function of its inputs.
    """
    if isinstance(policy, type):
        run = _Run(scenario, lambda spec: {"": policy()}, guards)
    else:
        run = _Run(scenario, policy or village.node, guards)
    run.go(progress)
    return run.record()


class _Run:
    """One run in the making."""

    def __init__(
        self, scenario: Scenario, make: Callable[[village.NodeSpec], dict[str, Any]], guards: Guards | None = None
    ) -> None:
        self.scenario, self.make = scenario, make
        self.shape = scenario.served
        self.requests = requests(scenario)
        self.stock = inventory(scenario)
        self.electorate = electorate(scenario, dict(zip(self.stock.name, self.stock.kind, strict=True)))
        self.committee, self.keepers = list(self.electorate.founders), list(self.electorate.keepers)
        access = machines.access_links(scenario, self.stock)
        network = MessageNetwork(scenario.seed, access, scenario.network)
        self.world = World(network, start_wall_ns=START_WALL_NS, guards=guards)
        self.rows: dict[str, list[tuple[Any, ...]]] = {"requests": [], "devices": [], "decisions": []}
        self.commits = Commits()
        self.served_by: dict[tuple[str, str], str] = {}  # (client, op_id) to the nodes of the answer
        self.refusals: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.devices = machines.device_parameters(self.stock)
        self.laws = machines.executor_laws(scenario, self.stock, self.shape)
        # Processes of one host share its cores, and a hop between them costs what was measured.
        self.host = hosts.read_profile(scenario.profile) if scenario.network.home == "loopback" else None
        self.compute = Compute(
            self.world, self.shape, dict(zip(self.stock.name, self.laws, strict=True)),
            fetched=scenario.network.shards == "fetched", policy=scenario.policy,
            shared_tokens=scenario.workload.shared_tokens,
            **machines.compute_arguments(scenario, self.stock),
        )  # fmt: skip
        self.world.jobs = self.compute
        self.share = np.zeros(len(self.stock.name))
        self._add_nodes(access)
        self.checking = Checking(scenario, self.compute, self.adversaries)
        self.checks = VillageChecks(
            {name: shape.layers for name, shape in scenario.models.items()},
            members=self.keepers, faulty=self.lying_members, fetched=self.compute.loads.fetched,
            protocol=str(scenario.policy.consensus.__struct_config__.tag),
            detector=scenario.policy.membership, nodes=len(self.stock.name), liars=self.adversaries,
            council=council_of(scenario, self.electorate, looks=True),
        )  # fmt: skip
        if self.checks.hears_messages:
            self.world.on_send.append(self._on_send)
        self.detection_bytes = 0
        if self.checks.detection:
            self.world.on_send.append(self._on_detection)
        # What a committee member mounts: every path there is.
        self.mounted = self.make(self.specs[self.stock.name.index(self.committee[0])])
        self.fleet = Fleet(
            scenario,
            self.stock,
            take_load=self._take_load,
            on_speed=self._on_speed,
            on_verdict=self._on_verdict,
            on_power=self._on_power,
            ladders=self._ladders(),
            on_rungs=self._on_rungs,
        )
        one_way_s = float(self.host["client_s"]) if self.host else machines.CLIENT_ONE_WAY_S
        self.clients = Clients(
            self.world, self.keepers, scenario.model, scenario.workload.retry_s, one_way_s, self._on_request_end,
            float(self.host["blob_s"]) if self.host else 0.0,
        )  # fmt: skip
        self.world.on_decide.append(self._on_decide)
        self.world.on_limit.append(self._on_limit)
        self.world.on_note.append(lambda now, node, effect: self.notes.update([effect[2]]))
        self.around = VillageAround(scenario, self.world, self.fleet, self.compute)
        self._replay_rates()
        self.faults = Faults(
            self.world, self.committee, [n for n in self.stock.name if n not in self.committee],
            seed=scenario.seed, duration_s=scenario.duration_s, restart=self._restart,
            groups=groups_of(scenario), leader=self._leader,
            busy=lambda: {s.node for x in self.compute.sessions.values() for s in x.job.stages},
            parted=self.compute.cut, slowed=self._on_slowed, around=self.around,
        )  # fmt: skip
        self.faults.on_record = lambda kind, node, phase: tell_fault(
            self.checks, int(self.world.engine.now), kind, node, phase
        )

    # -- building ------------------------------------------------------------------------------------

    def _replay_rates(self) -> None:
        """Let the links of what is carried about follow measured rates, where the scenario names a trace."""
        path = self.scenario.network.replay
        if path:
            carried = [i for i, kind in enumerate(self.stock.kind) if kind in ("phone", "tablet", "laptop")]
            traces = read_replay(Path(path))
            self.replays = Replays(self.world.engine, self.compute.bulk, traces, carried, self.scenario.seed)

    def _add_nodes(self, access: Links) -> None:
        s = self.scenario
        ring = KeyRing(s.seed)
        card = village.card(self.shape, s.policy)
        committee = tuple(self.committee)
        self.specs: list[village.NodeSpec] = []
        self.adversaries = choose(
            s.adversaries, dict(zip(self.stock.name, self.stock.kind, strict=True)), committee, s.seed
        )
        self.lying_members = set(self.adversaries).intersection(self.keepers)
        for name, role in self.adversaries.items():
            if (lying := lies_in_pipelines(role.behaviours)) is not None:
                self.compute.liars[name] = lying
        cost, chips = machines.step_cost(s), chip_flops(s, self.stock)
        for i, name in enumerate(self.stock.name):
            spec = village.NodeSpec(
                me=name,
                peers=tuple(m for m in self.keepers if m != name),
                committee=committee,
                seed=s.seed,
                config=s.policy,
                card=card,
                smaller=tuple(village.card(one.served, s.policy) for one in s.smaller),
                reading_ns=int(s.reading_s * NS_PER_S),
                capability=self._capability(i, access),
                dedicated=bool(self.stock.dedicated[i]),
                has_battery=bool(self.stock.has_battery[i]),
                flops=float(chips[i]),
                edge=s.edge,
                candidates=self.electorate.candidates,
                facts=self.electorate.facts.get(name),
            )
            self.specs.append(spec)
            node = self.world.add(name, self._factory(spec, ring), cost)
            if s.record.journals == "all" or (s.record.journals == "committee" and name in self.keepers):
                node.journal = Journal(self._header(spec))

    def _capability(self, i: int, access: Links) -> Capability:
        if self.host is not None:
            return hosts.capability(self.host, self.scenario.fleet.shaped.get(self.stock.name[i], Shaped()))
        rate = min(access.up_bytes_per_s[i], access.down_bytes_per_s[i])
        device = self.devices[i]
        memory = float(self.stock.row.ram_bytes[i])
        return village.capability(self.shape, device, memory, rate, access.one_way_s[i])

    def _factory(self, spec: village.NodeSpec, ring: KeyRing) -> Callable[[], Any]:
        from policies.cell import Cell

        def make(keys: Keys) -> Cell:
            return Cell(self.make(spec), spec.me, spec.peers, seed=spec.seed, keys=keys)

        role = self.adversaries.get(spec.me)
        return lambda: play(role, make, me=spec.me, peers=spec.peers, seed=spec.seed, key_of=ring.handle)

    def _ladders(self) -> Ladders | None:
        if "edge" not in self.mounted:
            return None
        memory_bytes = np.array([spec.capability.memory_bytes for spec in self.specs])
        return Ladders(self.scenario.policy.edge, self.stock.dedicated, self.stock.has_battery, memory_bytes)

    def _header(self, spec: village.NodeSpec) -> Header:
        manifest = policies_manifest(self.make(spec))
        config = with_role(village.to_plain(spec), self.adversaries.get(spec.me))
        return Header(spec.me, spec.peers, spec.seed, "sim", manifest, config)

    # -- running -------------------------------------------------------------------------------------

    def go(self, progress: Progress | None) -> None:
        """Run to the end, then on until every request has its outcome."""
        world, s = self.world, self.scenario
        started = time.perf_counter()
        for node in world.nodes:
            world.start(node)
        if "gateway" in self.mounted:
            self.clients.schedule(self.requests)
        self.faults.schedule(s.faults)
        if self.checks.calm and (elected := self.checks.council) is not None:
            healed_ns = int(elected.healed_s * NS_PER_S)
            world.engine.call_at(healed_ns, lambda _: self.checks.tell(healed_ns, "", HEALED.kind), None)
        world.engine.call_at(0, self._tick, None)
        chunk_s = max(s.duration_s / 200, s.reading_s)
        at = 0.0
        while at < s.duration_s:
            at = min(s.duration_s, at + chunk_s)
            world.run(at)
            self.checks.look(int(world.engine.now), self.keepers, self._policy)
            if progress is not None:
                progress(at / s.duration_s, self._headline(at))
        world.engine.run(until=int(s.duration_s * NS_PER_S) + 1)  # the tick at the end closes the last interval
        # Late requests may still be answered: give them what their clients would, and no more.
        end_s = s.duration_s + 3 * max(s.workload.deadline_s.values())
        while self.clients.open and at < end_s:
            at += s.reading_s
            world.run(at)
        self.wall_s = time.perf_counter() - started

    def _headline(self, at_s: float) -> str:
        lending = int(self.fleet.decision.contribute.sum()) if self.fleet.decision is not None else 0
        return f"{at_s / 3600:.1f} h, {lending} lent, {len(self.rows['requests'])} requests ended"

    def _tick(self, _: Any) -> None:
        s, now_s = self.scenario, self.world.engine.now / NS_PER_S
        self.fleet.tick()
        if (self.fleet.tick_number - 1) % max(1, round(s.record.devices_every_s / s.reading_s)) == 0:
            self._record_devices(now_s)
        self.world.engine.call_at(self.world.engine.now + int(s.reading_s * NS_PER_S), self._tick, None)

    def _take_load(self, row: int, elapsed_s: float) -> float:
        # What the executor did, in time: the power law takes the slowed clock into account itself.
        return min(1.0, self.compute.take_load(self.stock.name[row], elapsed_s) / float(self.fleet.state.speed[row]))

    def _on_speed(self, row: int, speed: float) -> None:
        speed = 1.0 if self.host else speed  # a profile is what a machine gives, its own governor included
        slowness = self.faults.slowness(self.world.nodes[row])
        self.compute.set_speed(self.stock.name[row], float(speed * self.share[row] / slowness))

    def _on_slowed(self, node: Node, factor: float) -> None:
        self._on_speed(node.number, float(self.fleet.state.speed[node.number]))
        (self.compute.silence.stop if factor == math.inf else self.compute.silence.go_on)(node)

    def _on_limit(self, now: int, node: Node, effect: Effect) -> None:
        if effect[2] == "compute":
            self.share[node.number] = effect[3]
            self._on_speed(node.number, float(self.fleet.state.speed[node.number]))

    def _on_verdict(self, row: int) -> None:
        if "harvest" not in self.mounted:
            return
        d = self.fleet.decision
        assert d is not None
        verdict = Verdict(
            bool(d.contribute[row]), float(d.compute_share[row]), float(d.memory_share[row]),
            float(d.bandwidth_bytes_per_s[row]), int(d.state[row]),
        )  # fmt: skip
        self.world.give(self.world.nodes[row], (p.DECISION, "harvest", encode(verdict)))

    def _on_rungs(self, row: int) -> None:
        readings = self.fleet.readings
        assert readings is not None
        given = Row(*(field[row].item() for field in readings))
        self.world.give(self.world.nodes[row], (p.READINGS, "edge", encode(given)))

    def _on_power(self, row: int, on: bool) -> None:
        """A device has no power left, from a battery or from the mains; or it has some again."""
        node = self.world.nodes[row]
        self.faults.record("no_power", node.name, "end" if on else "start", {})
        if not on:
            self.world.crash(node)
        elif not node.up:
            self._restart(node)

    def _restart(self, node: Node) -> None:
        self.compute.launch(node, lambda: self._begin(node))

    def _begin(self, node: Node) -> None:
        if self.fleet.off[node.number] or node.up or node.failing or self.faults.holds(node):
            return  # it starts when it has power and a disk, and no crash keeps it down; or it has started already
        self.checks.restarted(node.name)
        self.checks.tell(int(self.world.engine.now), node.name, ROSE.kind)
        self.share[node.number] = 0.0
        self.world.start(node)
        if not node.up:
            return  # its log is damaged
        # Its agents forgot the row's rungs and its decision.
        if self.fleet.ladders is not None:
            assert self.fleet.readings is not None
            self.fleet.ladders.restart(node.number, self.fleet.readings)
            self._on_rungs(node.number)
        self._on_verdict(node.number)

    def _leader(self) -> str:
        return self.checks.leaders[-1][1] if self.checks.leaders else ""

    # -- recording -----------------------------------------------------------------------------------

    def _on_decide(self, now: int, node: Node, effect: Effect) -> None:
        if node.name in self.lying_members:
            return  # what a liar announces is neither a promise nor a fact
        _, path, kind, payload = effect
        value = self.checks.decided(now, node.name, path, kind, payload)
        if isinstance(value, SettledOp):
            self.served_by[(value.client, value.op_id)] = ",".join(value.nodes)
        elif isinstance(value, Chosen):
            self.commits.take(now / NS_PER_S, node.name, value.index, value.term)
        elif kind != "commit":
            plain = _plain(value) if isinstance(value, msgspec.Struct) else msgspec.msgpack.decode(payload)
            detail = json.dumps(plain, default=bytes.hex)
            self.rows["decisions"].append((now / NS_PER_S, node.name, path, kind, detail))

    def _on_send(self, now: int, node: Node, effect: Effect) -> None:
        if node.name not in self.lying_members:
            _, path, to, payload = effect
            self.checks.said(now, node.name, path, to, payload)

    def _on_detection(self, now: int, node: Node, effect: Effect) -> None:
        if effect[1] == "membership":
            self.detection_bytes += len(effect[3])

    def _policy(self, name: str, path: str) -> Policy | None:
        """Return an honest member's policy, for checks of states; None while it is down."""
        node = self.world.by_name[name]
        if not node.up or name in self.lying_members or path not in self.mounted:
            return None
        return innermost(node.cell).policy(path)

    def _on_request_end(self, asked: Asked) -> None:
        r, f = asked.request, asked.finish
        assert f is not None
        latency_s = asked.ended_ns / NS_PER_S - r.arrival_s
        status = "late" if f.status == "answered" and latency_s > r.deadline_s else f.status
        if f.status == "refused":
            self.refusals[f.reason] += 1
        prompt = digest(f"{r.client}/{r.op_id}".encode())
        model = f.model or self.scenario.model if f.status == "answered" else ""
        judged = f.output and "+" not in model
        correct = f.output == answer_digest(model, prompt, r.new_tokens) if judged else None
        self.rows["requests"].append((
            r.op_id, r.client, PRIORITIES[r.priority], r.arrival_s, r.deadline_s, r.prompt_tokens, r.new_tokens, status,
            f.reason, f.first_token_ns / NS_PER_S if f.tokens else None, latency_s, f.attempts, f.tokens, f.output,
            correct, self.served_by.get((r.client, r.op_id), "") if f.status == "answered" else "", model,
        ))  # fmt: skip

    def _record_devices(self, now_s: float) -> None:
        state, d, r, stock = self.fleet.state, self.fleet.decision, self.fleet.readings, self.stock
        assert d is not None
        assert r is not None
        self.rows["devices"].extend(
            zip(
                [now_s] * len(stock.name),
                stock.name,
                stock.kind,
                state.soc.tolist(),
                r.plugged.tolist(),
                r.screen_on.tolist(),
                state.die_c.tolist(),
                state.skin_c.tolist(),
                state.speed.tolist(),
                d.contribute.tolist(),
                [HARVEST_STATES[k] for k in d.state.tolist()],
                strict=True,
            )
        )

    def record(self) -> Record:
        """Return what the run left behind."""
        self._final_checks()
        tables = {**self.rows, "commits": self.commits.rows(), "faults": self.faults.rows,
                  "sessions": self.compute.ended}  # fmt: skip
        manifest = {
            "record_version": RECORD_VERSION,
            "digest": self.world.digest,
            "seed": self.scenario.seed,
            "world": "sim",
            "fidelity": {**fidelity(self.scenario.network), **self.checking.fidelity},
            "config": to_plain(self.scenario),
            "versions": versions(),
            "policies": policies_manifest(self.mounted),
            "committee": self.committee,
            "adversaries": {name: describe(role.behaviours) for name, role in self.adversaries.items()},
            "checks": {v.name: v.broken or True for v in self.checks.asked},
            "check_events": {v.name: v.events for v in self.checks.asked},
            "refusals": dict(sorted(self.refusals.items())),
            "notes": dict(sorted(self.notes.items())),
            "ledger": dict(sorted(self._ledger().items(), key=lambda item: (-item[1], item[0]))),
            **machines.of_profile(self.scenario, self.stock),
        }
        journals = {n.name: n.journal.take() for n in self.world.nodes if n.journal is not None}
        return Record(self._summary(), manifest, tables, journals)

    def _final_checks(self) -> None:
        self.checks.over(int(self.world.engine.now))
        self.checks.ask_states({n: s for n, s in self._states().items() if s is not None})
        if self.fleet.violations:
            self.checks.envelope.broken = self.fleet.violations[0]
        self.checks.envelope.events = self.fleet.tick_number
        self.checks.answered.events = len(self.rows["requests"])
        if self.clients.open:
            (client, op_id), _ = next(iter(self.clients.open.items()))
            self.checks.answered.broken = f"{client}/{op_id}: no outcome and not given up at the end of the run"

    def _states(self) -> dict[str, Any]:
        """Replicated state of the honest committee members that are up."""
        states: dict[str, Any] = {}
        for name in self.keepers:
            node = self.world.by_name[name]
            if node.up and name not in self.lying_members and "coordination" in self.mounted:
                states[name] = getattr(node.cell.policy("coordination"), "state", None)  # type: ignore[attr-defined]
        return states

    def _ledger(self) -> dict[str, int]:
        states = [s for s in self._states().values() if s is not None]
        return max(states, key=lambda s: s.applied).ledger if states else {}

    def _summary(self) -> dict[str, float]:
        from scenarios.summary import detection_summary, model_summary, recovery_summary, request_summary

        s, rows = self.scenario, self.rows["requests"]
        summary = request_summary(rows, s.duration_s) | model_summary(rows, list(s.models))
        summary |= recovery_summary(s.policy.recovery, [self.compute.copies.counts])
        ran_s = self.world.engine.now / NS_PER_S
        summary.update(detection_summary(self.checks, self.detection_bytes, len(self.stock.name), ran_s))
        summary.update(self.checking.summary(self.rows, self.notes["bound"]))
        summary.update(
            duration_s=s.duration_s,
            devices=float(len(self.stock.name)),
            commits=float(self.checks.commits),
            elections=float(self.checks.elections),
            crashes=float(self.faults.crashes),
            answers_correct=float(sum(row[14] is True for row in self.rows["requests"])),
            harvest_sessions=float(self.fleet.sessions),
            fleet_energy_j=self.fleet.energy_j,
            village_energy_j=self.fleet.village_j,
            ledger_token_layers=float(sum(self._ledger().values())),
            messages=float(self.world.network.sent),
            messages_lost=float(self.world.network.lost),
            message_bytes=float(self.world.network.bytes),
            port_steps=float(self.world.steps),
            plans=float(self.compute.plans),
            fetched_bytes=self.compute.loads.fetched_bytes,
            checks_broken=float(sum(not v.holds for v in self.checks.all)),
        )
        return summary


START_WALL_NS = 1_750_000_000 * NS_PER_S  # at the start of every simulated run: June 2025, so that runs repeat exactly


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(msgspec.structs.asdict(value))
