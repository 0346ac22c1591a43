"""A disk that has lost what a node promised stops that node, with one line that names file, place and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.consensus.changes import Membership
from policies.consensus.hotstuff.epoch import genesis
from policies.consensus.hotstuff.node import NOTHING_SEEN, HotStuff
from policies.consensus.quorum import Voters
from policies.consensus.raft.state import Saved
from policies.log import DamagedLog, record
from policies.port import Policy
from policies.state import VillageState
from policies.wire import WIRE_VERSION, encode
from real_backends import committer, specs
from real_backends.cluster import free_addresses, until
from real_backends.damage import COPY, MEMBER, UNKNOWN, WORKER
from real_backends.identity import OWNER, make_village
from real_backends.node import POLICY_RAISED, NodeConfig, make_parts, make_serve
from real_backends.node_files import read_events
from real_backends.processes import NodeFailed, Processes
from real_backends.serve import Serve
from real_backends.transports.memory import Hub
from scenarios.schema import Scenario, to_plain
from tests.real_backends import beating
from tests.real_backends.beating import desks
from tests.real_backends.registers import PROTOCOLS, members
from tests.real_backends.test_serve import Alone, _serve

NAMES = ("a", "b", "c", "d")


def rotten() -> bytes:
    """Return a log whose first record has a flipped bit, and whose second found the first one durable."""
    first = record([("consensus/vote", b"for b")])
    return bytes([first[0] ^ 1]) + first[1:] + record([("consensus/vote", b"for c")], len(first))


def config_of(scenario: Scenario, name: str, folder: Path, policy: str = "") -> NodeConfig:
    """Return what a node process is told; its village is there."""
    names = (*specs.node_kinds(scenario), OWNER)
    make_village(folder / "identities", names)
    return NodeConfig(
        name=name, addresses=free_addresses(names), folder=str(folder / name), identities=str(folder / "identities"),
        backend="torch", scenario=to_plain(scenario), policy=policy, begun_ns=1,
    )  # fmt: skip


FIXED: dict[str, Any] = {"rule": "fixed"}
COUNCIL: dict[str, Any] = {"rule": "council", "epoch_s": 60.0}


@pytest.mark.parametrize(
    ("name", "committee", "protocol", "rule", "todo"),
    [
        ("desk-0", 4, "hotstuff", FIXED, f"{MEMBER}; 3 of the 4 members suffice without it; {COPY}"),
        ("desk-0", 4, "pbft", FIXED, f"{MEMBER}; 3 of the 4 members suffice without it; {COPY}"),
        ("desk-0", 3, "raft", FIXED, f"{MEMBER}; 2 of the 3 members suffice without it; {COPY}"),
        ("desk-0", 1, "raft", FIXED, f"{MEMBER}; no member is to spare; {COPY}"),
        ("desk-6", 4, "hotstuff", COUNCIL, f"{MEMBER}; the council seats another device in its place; {COPY}"),
        ("desk-6", 4, "hotstuff", FIXED, WORKER),
    ],
    ids=["hotstuff", "pbft", "raft", "alone", "council", "worker"],
)
def test_a_damaged_log_is_told_with_its_file_its_place_and_what_to_do(
    tmp_path: Path, name: str, committee: int, protocol: str, rule: Mapping[str, Any], todo: str
) -> None:
    """A member must not be helped to forget what it voted, a worker may begin anew; nothing is written either way."""
    rules = {"consensus": msgspec.to_builtins(PROTOCOLS[protocol]), "committee": rule}
    scenario = desks(7, committee, duration_s=90.0, policy=rules)
    config, log = config_of(scenario, name, tmp_path), tmp_path / name / "node.log"
    log.parent.mkdir()
    (log.parent / "wire_version").write_text(str(WIRE_VERSION))
    log.write_bytes(rotten())

    async def run() -> None:
        await make_serve(config, make_parts(config), 1).start()

    with pytest.raises(DamagedLog) as caught:
        asyncio.run(run())
    assert str(caught.value) == (
        f"{log}: byte 0: damaged, and the record that ends at byte {len(rotten())} found it durable: {todo}"
    )
    assert log.read_bytes() == rotten()


def promised() -> dict[str, bytes]:
    """Return promises of a member of HotStuff about a block that it has not saved."""
    member = HotStuff(PROTOCOLS["hotstuff"], NAMES)  # type: ignore[arg-type]
    root = genesis(NAMES)[1].root
    member.safety.high = msgspec.structs.replace(root, block=b"\x0b" * len(root.block))
    return {"consensus/safety": encode((0, member.safety.saved(), root.block, NOTHING_SEEN))}


def snapshot(change: int) -> dict[str, bytes]:
    """Return a Raft member's snapshot with one bit of its state changed."""
    state = VillageState().snapshot()
    state = state[:change] + bytes([state[change] ^ 1]) + state[change + 1 :]
    return {"consensus/snapshot": encode(Saved(1, 1, Membership(Voters(NAMES)), state))}


@pytest.mark.parametrize(
    ("protocol", "saved", "what"),
    [
        ("hotstuff", promised(), "safety: block 0b0b0b.* was promised and is not saved"),
        ("hotstuff", {"consensus/safety": b"\xc1"}, "MessagePack data is malformed: .*"),
        ("pbft", {"consensus/stable": b"\xc1"}, "a: a saved record of consensus is not one .*"),
        ("raft", {"consensus/000000000002": encode((1, b""))}, "log entry 1: missing, and 000000000002 is there.*"),
        ("raft", snapshot(-1), r"state snapshot of \d+ bytes: damaged, its digest is another"),
        ("raft", snapshot(0), r"state snapshot of \d+ bytes: does not begin with VTSTATE"),
    ],
    ids=["promise without its block", "no promise", "no checkpoint", "gap", "snapshot", "no snapshot"],
)
def test_records_that_are_whole_and_cannot_be_are_told_alike(
    tmp_path: Path, protocol: str, saved: Mapping[str, bytes], what: str
) -> None:
    """What a policy finds amiss when it begins stops the node with the same one line, and no record is rewritten."""
    log, before = tmp_path / "node.log", record(saved.items())
    log.write_bytes(before)
    policies: dict[str, Policy] = members(PROTOCOLS[protocol], NAMES)

    async def run() -> None:
        serve = _serve(policies, tmp_path, Hub(), advice="ask your neighbour")
        await serve.start()
        await asyncio.wait((serve.stopped,))
        await serve.stop()
        serve.stopped.result()

    with pytest.raises(DamagedLog, match=rf"^{log}: {what}: ask your neighbour$"):
        asyncio.run(run())
    assert log.read_bytes().startswith(before)


def test_damage_that_is_found_while_a_node_runs_is_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compacting reads the whole file; what it finds stops the node."""
    monkeypatch.setattr(committer, "COMPACT_BYTES", 200)
    log = tmp_path / "node.log"

    def begin(me: Alone) -> None:
        log.write_bytes(b"\x00" + log.read_bytes()[1:])
        me.port.save("vote", bytes(200))

    async def run() -> None:
        serve = _serve(Alone(begin), tmp_path, Hub(), advice="ask your neighbour")
        await serve.start()
        await asyncio.wait((serve.stopped,))
        await serve.stop()
        serve.stopped.result()

    with pytest.raises(DamagedLog, match=rf"^{log}: byte 0: damaged, and all \d+ bytes were durable: ask your neigh"):
        asyncio.run(run())


def test_what_recovery_cuts_off_is_told(tmp_path: Path) -> None:
    """A torn tail, of which nothing says that it was durable, goes; of all three files the note says how much."""

    async def live(begin: Callable[[Alone], object]) -> Serve:
        serve = _serve(Alone(begin), tmp_path, Hub())
        await serve.start()
        await serve.stop()
        return serve

    assert not asyncio.run(live(lambda me: me.port.save("vote", b"for b"))).counts["cut_tails"]
    log, journal, events = (tmp_path / name for name in ("node.log", "node.journal", "events.jsonl"))
    whole = [path.stat().st_size for path in (log, journal, events)]
    newest = len(record([]))  # it vouches for the others, and nothing for it
    log.write_bytes(log.read_bytes()[:-1] + b"\x00")
    journal.write_bytes(journal.read_bytes() + b"torn")
    events.write_bytes(events.read_bytes() + b"{")

    assert asyncio.run(live(lambda me: None)).counts["cut_tails"] == 3
    told = [each["detail"] for each in read_events(events) if (each["path"], each["name"]) == ("disk", "cut_tail")]
    assert told == [
        {"file": "node.journal", "from_bytes": whole[1] + 4, "to_bytes": whole[1], "bytes": 4},
        {"file": "events.jsonl", "from_bytes": whole[2] + 1, "to_bytes": whole[2], "bytes": 1},
        {"file": "node.log", "from_bytes": whole[0], "to_bytes": whole[0] - newest, "bytes": newest},
    ]


def last_words(folder: Path, log: bytes) -> NodeFailed:
    """Run a desk whose user's policy saves what it counts, kill it, start it again with this log until it ends."""

    async def run() -> None:
        processes = Processes(desks(1), ("desk-0",), folder, f"{beating.__file__}:Beating", lambda *f: None)
        path = folder / "desk-0" / "node.log"
        try:
            await processes.start_all()
            await until(lambda: b"number" in path.read_bytes())
            await processes.kill("desk-0")
            path.write_bytes(log)
            await processes.start("desk-0")
            await processes.ended("desk-0")
            processes.check()
        finally:
            await processes.stop_all()

    with pytest.raises(NodeFailed) as caught:
        asyncio.run(run())
    return caught.value


def test_a_node_with_a_damaged_log_ends_with_its_line_and_an_exit_code(tmp_path: Path) -> None:
    """Whoever launched it reads the one line, and the file is as it was."""
    failed, log = last_words(tmp_path, rotten()), tmp_path / "desk-0" / "node.log"

    assert failed.code == 2
    assert failed.said == (
        f"{log}: byte 0: damaged, and the record that ends at byte {len(rotten())} found it durable: {UNKNOWN}"
    )
    assert (tmp_path / "desk-0.stderr").read_text().count("\n") == 1
    assert log.read_bytes() == rotten()


def test_a_users_policy_that_cannot_read_what_it_saved_is_told_its_line(tmp_path: Path) -> None:
    """Its own records are its own to read: the fault may be in the file that has the policy."""
    failed = last_words(tmp_path, record([("/number", b"many")]))

    assert failed.code == POLICY_RAISED
    line = 1 + Path(beating.__file__).read_text().splitlines().index(
        '        self.number = int(saved.get("number", b"0"))'
    )
    assert failed.said.startswith(f"{line}: ValueError: invalid literal for int() with base 10: b'many'")
