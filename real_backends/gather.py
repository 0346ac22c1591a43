"""What a local run leaves behind: the nodes' events and journals, and what clients saw, as one `Record`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.port import MESSAGE, Policy
from policies.readings import HARVEST_STATES
from policies.wire import digest, encode
from real_backends.clients import Asked
from real_backends.executors import Shard
from real_backends.node_files import read_events
from real_backends.replicas import ledger, replicas
from real_backends.specs import roles
from scenarios.adversaries.wrapped import describe
from scenarios.checked import law_summary, least_found
from scenarios.checks import VillageChecks
from scenarios.checks.checking import CHECKING
from scenarios.checks.membership import ROSE, tell_fault
from scenarios.checks.progress import HEALED
from scenarios.checks.village import council_of
from scenarios.commits import Commits
from scenarios.council import electorate
from scenarios.digests import policies_manifest, versions
from scenarios.hosts import profile_hash, read_profile
from scenarios.journal import read
from scenarios.record import RECORD_VERSION, Record
from scenarios.schema import PRIORITIES, Scenario, to_plain
from scenarios.summary import (
    checking_summary,
    detection_summary,
    model_summary,
    recovery_summary,
    request_summary,
)

FIDELITY = {
    "compute": "real executors, one thread a process",
    "signatures": "Ed25519",
    "clocks": "the host's",
    "disk": "the host's, fsync a commit",
}

HELD = "paced: a step holds the time of the profile's law and computes nothing; tokens are a seeded stand-in"

Event = tuple[str, dict[str, Any]]
"""(node, event of `real_backends.node_files`)."""


def merge_events(folder: Path, names: Sequence[str]) -> list[Event]:
    """Return all nodes' events in order of time: processes of one host share the monotonic clock."""
    merged = [(name, event) for name in names for event in read_events(folder / name / "events.jsonl")]
    return sorted(merged, key=lambda item: item[1]["now_ns"])


def last_leader(folder: Path, committee: Sequence[str]) -> str:
    """Return who announced last that it leads, or ""."""
    leaders = [
        name
        for name, event in merge_events(folder, committee)
        if event["kind"] == "decide" and event["name"] == "leader"
    ]
    return leaders[-1] if leaders else ""


def gather(
    scenario: Scenario,
    folder: Path,
    kinds: Mapping[str, str],
    policies: Mapping[str, Policy],
    asked: Sequence[Asked],
    fault_rows: Sequence[tuple[Any, ...]],
    restarts: Sequence[tuple[int, str]],
    states: Mapping[str, Any],
    begun_ns: int,
    retries: Sequence[tuple[int, Asked, Asked]] = (),
    *,
    in_namespaces: bool = False,
) -> Record:
    """Put the record together.

    Args:
        scenario: what was run.
        folder: the nodes' folders.
        kinds: node to kind of device.
        policies: of the first node, for their digests.
        asked: every request from its client's side.
        fault_rows: rows of the table ``faults``.
        restarts: (monotonic ns, node) of every restart.
        states: each node's last state, for the manifest.
        begun_ns: monotonic time of the run's start.
        retries: (gateway, request, the same asked again) of every retry at the end.
        in_namespaces: whether each node had a network namespace of its own, or all shared the loopback interface.
    """
    who = electorate(scenario, kinds)
    liars = roles(scenario)
    # What a committee member that lies announces is neither a promise nor a fact.
    lying = set(liars).intersection(who.keepers)
    events = [(n, e) for n, e in merge_events(folder, list(kinds)) if n not in lying or e["kind"] != "decide"]
    journals = {name: (folder / name / "node.journal").read_bytes() for name in kinds}
    checks = VillageChecks(
        {name: shape.layers for name, shape in scenario.models.items()}, members=who.keepers, faulty=lying,
        protocol=str(scenario.policy.consensus.__struct_config__.tag),
        detector=scenario.policy.membership, nodes=len(kinds), liars=liars,
        council=council_of(scenario, who, looks=False),
    )  # fmt: skip
    _tell(checks, events, restarts, fault_rows, begun_ns)
    _hear(checks, {name: journals[name] for name in who.keepers if name not in lying})
    lost = [a.request.op_id for a in asked if a.finish is None or a.finish.status == "lost"]
    checks.answered.events = len(asked)
    checks.answered.broken = f"{lost[0]}: no outcome heard" if lost else ""
    members = {name: replica for name, replica in replicas(states).items() if name not in lying}
    checks.ask_states(dict(members))
    _check_retries(checks, retries)
    nodes = {e["detail"][2]: ",".join(e["detail"][6]) for _, e in events if e["name"] == "settled"}
    references = _answers(scenario, asked)
    requests = [
        _request_row(a, nodes, reference, scenario.model) for a, reference in zip(asked, references, strict=True)
    ]
    kept = {"none": [], "committee": list(who.keepers), "all": list(kinds)}[scenario.record.journals]
    manifest = {
        "record_version": RECORD_VERSION,
        "digest": _digest(journals),
        "seed": scenario.seed,
        "world": "local",
        "fidelity": {
            **FIDELITY,
            **({"compute": HELD} if scenario.executor == "paced" else {}),
            **({} if scenario.policy.coordination.spot_checks is None else {"verification": "computed"}),
            "network": f"TLS 1.3 over {'a bridge of namespaces' if in_namespaces else 'loopback'}",
        },
        "cuts": "namespace" if in_namespaces else "above TLS",
        "config": to_plain(scenario),
        "versions": versions(),
        "policies": policies_manifest(dict(policies)),
        "committee": list(who.founders),
        "adversaries": {name: describe(role.behaviours) for name, role in liars.items()},
        "checks": {v.name: v.broken or True for v in checks.asked},
        "check_events": {v.name: v.events for v in checks.asked},
        "refusals": dict(Counter(row[8] for row in requests if row[7] == "refused")),
        "notes": dict(sorted(Counter(e["name"] for _, e in events if e["kind"] == "note").items())),
        "ledger": ledger(members),
        "profile": profile_hash(read_profile(scenario.profile)),
        "sensors": scenario.sensors,
        **_sensors_manifest([state["sensors"] for state in states.values()]),
        "answers": _answers_manifest(asked, references),
        "retries": len(retries),
        "backends": list(scenario.backends),
        "fault_layers": _fault_layers(fault_rows),
        "nodes": {name: _node_manifest(state) for name, state in states.items()},
    }
    tables: dict[str, Sequence[tuple[Any, ...]]] = {
        "requests": requests,
        "devices": _device_rows(scenario, events, kinds, begun_ns),
        "decisions": _decision_rows(events, begun_ns),
        "commits": _commit_rows(events, begun_ns),
        "faults": list(fault_rows),
        "sessions": _session_rows(events, begun_ns),
    }
    summary = request_summary(requests, scenario.duration_s)
    summary.update(model_summary(requests, list(scenario.models)))
    summary.update(recovery_summary(scenario.policy.recovery, [state["recovery"] for state in states.values()]))
    if checks.detection:
        heard = _heard_bytes(journals, "membership")
        summary.update(detection_summary(checks, heard, len(kinds), scenario.duration_s))
    if (rules := scenario.policy.coordination.spot_checks) is not None:
        checking = _checking(events, journals, states)
        found, bound = least_found(f"{name} fp32" for name in scenario.backends), int(checking["checking_sessions"])
        law = law_summary(rules, scenario.models, found, bound, requests, tables["sessions"])
        summary.update(checking | law)
    summary.update(
        duration_s=scenario.duration_s,
        devices=float(len(kinds)),
        answers_correct=float(sum(row[14] is True for row in requests)),
        ledger_token_layers=float(sum(manifest["ledger"].values())),
        commits=float(checks.commits),
        elections=float(checks.elections),
        crashes=float(sum(row[1] == "crash" and row[3] == "start" for row in fault_rows)),
        checks_broken=float(sum(not v.holds for v in checks.all)),
    )
    return Record(summary, manifest, tables, {name: journals[name] for name in kept})


def _tell(
    checks: VillageChecks, events: Sequence[Event], restarts: Sequence[tuple[int, str]],
    fault_rows: Sequence[tuple[Any, ...]], begun_ns: int,
) -> None:  # fmt: skip
    """Tell what happened in order of time: what was done to nodes, and what they announced."""
    done = [(at_ns, "", name, "") for at_ns, name in restarts]
    done += [(begun_ns + int(row[0] * 1e9), row[1], row[2], row[3]) for row in fault_rows]
    if checks.calm and checks.council is not None:
        done.append((begun_ns + int(checks.council.healed_s * 1e9), HEALED.kind, "", ""))
    waiting = sorted(done, reverse=True)
    rising: set[str] = set()  # started again, which takes a process seconds, and not heard of yet
    for name, event in events:
        now_ns = event["now_ns"]
        while waiting and waiting[-1][0] <= now_ns:
            at_ns, kind, who, phase = waiting.pop()
            if kind == HEALED.kind:
                checks.tell(at_ns, "", kind)
            elif kind:
                tell_fault(checks, at_ns, kind, who, phase)
            else:
                checks.restarted(who)
                rising.add(who)
        if name in rising:
            rising.discard(name)
            checks.tell(now_ns, name, ROSE.kind)
        if event["kind"] == "decide":
            # The plain form encodes to what was announced, but for signatures in evidence, which no check looks at.
            checks.decided(now_ns, name, event["path"], event["name"], encode(event["detail"]))
    if events:
        checks.over(events[-1][1]["now_ns"])


def _checking(events: Sequence[Event], journals: Mapping[str, bytes], states: Mapping[str, Any]) -> dict[str, float]:
    """Return what checks of workers found and cost; see `scenarios.summary.checking_summary`."""
    told = [(event["name"], event["detail"]) for _, event in events if event["kind"] in ("decide", "note")]
    words = [detail[5] for name, detail in told if name == "checked"]  # after a tag, the fields of `Checked`
    worked = [state["checking"] for state in states.values() if "checking" in state]
    return checking_summary(
        words, sum(name == "found_false" for name, _ in told), sum(name == "bound" for name, _ in told),
        sum(_heard_bytes(journals, path) for path in CHECKING) + sum(fetched for _, fetched in worked),
        sum(seconds for seconds, _ in worked),
    )  # fmt: skip


def _heard_bytes(journals: Mapping[str, bytes], path: str) -> int:
    """Return the bytes of all messages that policies at a path heard from one another."""
    rows = (row for data in journals.values() for row in read(data)[1])
    return sum(len(given[3]) for _, _, given, _, _ in rows if given[0] == MESSAGE and given[1] == path)


def _hear(checks: VillageChecks, journals: Mapping[str, bytes]) -> None:
    """What honest members heard from one another is what they said, as far as it arrived."""
    if not checks.hears_messages:
        return
    for name, data in journals.items():
        for now_ns, _, given, _, _ in read(data)[1]:
            if given[0] == MESSAGE and given[2] in journals:
                _, path, sender, payload = given
                checks.said(now_ns, sender, path, name, payload)


def _check_retries(checks: VillageChecks, retries: Sequence[tuple[int, Asked, Asked]]) -> None:
    """Who asks again, at any gateway, must hear the outcome that the request had."""
    for gateway, first, again in retries:
        assert first.finish is not None
        checks.one_outcome.events += 1
        heard = (again.finish.status, again.finish.output) if again.finish is not None else ("lost", "")
        if heard != ("answered", first.finish.output) and checks.one_outcome.holds:
            op, had = f"{first.request.client}/{first.request.op_id}", first.finish.output
            checks.one_outcome.broken = f"{op}: asked again at gateway {gateway} hears {heard}, was answered {had!r}"


def _sensors_manifest(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the nodes' sensors lack and assume, and how many readings lacked what had been there."""
    gone: Counter[str] = Counter()
    for one in reports:
        gone.update(one["gone"])
    return {
        "sensors_missing": sorted({name for one in reports for name in one["missing"]}),
        "sensors_assumed": {field: value for one in reports for field, value in one.get("assumed", {}).items()},
        "sensors_absent": sorted({line for one in reports for line in one.get("absent", ())}),
        "sensors_gone": dict(sorted(gone.items())),
    }


def _fault_layers(rows: Sequence[tuple[Any, ...]]) -> dict[str, list[str]]:
    """Return each kind of fault that was carried out to the layers that did it."""
    done = sorted({(row[1], row[4]) for row in rows if row[3] == "start"})
    return {kind: [layer for k, layer in done if k == kind] for kind, _ in done}


def _node_manifest(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's state without what the manifest says once for all."""
    plain = {name: value for name, value in state.items() if name not in ("replica", "sensors")}
    plain["sensors_gone"] = dict(state["sensors"]["gone"])
    member = state["replica"]
    return {**plain, "applied": member["applied"], "state_digest": member["state_digest"]} if member else plain


def _answers_manifest(asked: Sequence[Asked], references: Sequence[list[int] | None]) -> dict[str, Any]:
    """Return digests of all answers and of the reference's, in the order asked, and the first answer's tokens."""
    compared = [(np.frombuffer(a.output, dtype="<i4").tolist(), reference)
                for a, reference in zip(asked, references, strict=True)
                if a.output is not None and reference is not None]  # fmt: skip
    return {
        "compared": len(compared),
        "digest": digest(encode([answer for answer, _ in compared])),
        "reference_digest": digest(encode([reference for _, reference in compared])),
        "first_tokens": compared[0][0] if compared else [],
    }


def _request_row(
    asked: Asked, nodes: Mapping[str, str], reference: list[int] | None, first_model: str
) -> tuple[Any, ...]:
    r, f = asked.request, asked.finish
    model = f.model or first_model if f is not None and f.status == "answered" else ""
    if f is None:
        status, reason, attempts, tokens, output, first = "lost", "the run ended", 0, 0, "", None
    else:
        status, reason, attempts, tokens, output = f.status, f.reason, f.attempts, f.tokens, f.output
        first = f.first_token_ns / 1e9 if f.tokens else None
    latency_s = asked.ended_s - r.arrival_s if f is not None else float("nan")
    if status == "answered" and latency_s > r.deadline_s:
        status = "late"
    correct = None
    if asked.output is not None and reference is not None:
        correct = np.frombuffer(asked.output, dtype="<i4").tolist() == reference
    return (
        r.op_id, r.client, PRIORITIES[r.priority], r.arrival_s, r.deadline_s, r.prompt_tokens, r.new_tokens,
        status, reason, first, latency_s, attempts, tokens, output, correct, nodes.get(r.op_id, ""), model,
    )  # fmt: skip


def _answers(scenario: Scenario, asked: Sequence[Asked]) -> list[list[int] | None]:
    """Return what one process alone answers to each prompt that one model answered, to compare with."""
    from real_backends.executors import Pipeline, make_shard
    from real_backends.executors.paced import PacedShard
    from real_backends.models import law_of, open_model, spec_of

    def alone(model: str) -> Pipeline:
        shard: Shard
        if scenario.executor == "paced":
            spec = spec_of(scenario, model)
            shard = PacedShard(spec, 0, spec.layers, law_of(scenario, model), seed=scenario.seed, sleep=None)
        else:
            spec, weights = open_model(scenario, model)
            shard = make_shard(scenario.backends[0], spec, weights, 0, spec.layers)
        return Pipeline([shard])

    by = [a.finish.model or scenario.model if a.finish is not None and a.output is not None else "" for a in asked]
    made = {model: alone(model) for model in scenario.models if model in by}
    return [
        made[model].generate(a.prompt, a.request.new_tokens, a.sampling) if model in made else None
        for a, model in zip(asked, by, strict=True)
    ]


def _time_s(event: Mapping[str, Any], begun_ns: int) -> float:
    return max(0.0, float(event["now_ns"] - begun_ns) / 1e9)  # what nodes did before all were ready counts as time 0


def _decision_rows(events: Sequence[Event], begun_ns: int) -> list[tuple[Any, ...]]:
    return [
        (_time_s(event, begun_ns), name, event["path"], event["name"], json.dumps(event["detail"]))
        for name, event in events
        if event["kind"] == "decide" and event["name"] not in ("commit", "settled")
    ]


def _commit_rows(events: Sequence[Event], begun_ns: int) -> list[tuple[Any, ...]]:
    commits = Commits()
    for name, event in events:
        if event["kind"] == "decide" and (event["path"], event["name"]) == ("consensus", "commit"):
            commits.take(_time_s(event, begun_ns), name, *event["detail"][1:3])  # a tag, then the fields of `Chosen`
    return list(commits.rows())


def _session_rows(events: Sequence[Event], begun_ns: int) -> list[tuple[Any, ...]]:
    rows = []
    for name, event in events:
        if event["kind"] == "session":
            started_ns, first_ns, tokens, stages = event["detail"]
            ended_s = (event["now_ns"] - begun_ns) / 1e9
            rows.append((event["name"], name, (started_ns - begun_ns) / 1e9, first_ns / 1e9, ended_s, tokens, stages))
    return rows


def _device_rows(
    scenario: Scenario, events: Sequence[Event], kinds: Mapping[str, str], begun_ns: int
) -> list[tuple[Any, ...]]:
    """Return each device's readings, at most one each ``record.devices_every_s``, with its harvest state then."""
    rows: list[tuple[Any, ...]] = []
    share, state = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, HARVEST_STATES[0])
    next_s = dict.fromkeys(kinds, float("-inf"))
    for name, event in events:
        time_s, detail = _time_s(event, begun_ns), event["detail"]
        if event["kind"] == "limit" and event["name"] == "compute":
            share[name] = detail
        elif event["kind"] == "decide" and event["name"] == "harvest":
            state[name] = HARVEST_STATES[detail[4]]
        elif event["kind"] == "readings" and time_s >= next_s[name]:
            next_s[name] = time_s + scenario.record.devices_every_s - scenario.reading_s / 2
            rows.append((
                time_s, name, kinds[name], _known(detail["soc"]), detail["plugged"], detail["screen_on"],
                _known(detail["die_c"]), _known(detail["skin_c"]), share[name], share[name] > 0, state[name],
            ))  # fmt: skip
    return rows


def _known(value: float | None) -> float:
    """Return a number of an event, where JSON's null stands for one that is unknown."""
    return float("nan") if value is None else float(value)


def _digest(journals: Mapping[str, bytes]) -> str:
    state = hashlib.blake2b(digest_size=20)
    for name, data in sorted(journals.items()):
        state.update(encode((name, data)))
    return state.hexdigest()
