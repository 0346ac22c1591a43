"""What a node writes about itself is bounded where it is asked to be, whole, and says from where it can be replayed."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments.compose import UsageError
from experiments.replay import replay
from policies import port as p
from policies.cell import Cell
from policies.log import frame, frames
from policies.port import Keys, Policy
from policies.wire import WIRE_VERSION, Message, encode
from real_backends.cluster import LocalCluster, until
from real_backends.node_files import EventFile, JournalFile, read_events, read_journal, require_version
from scenarios.journal import Header, read

HEADER = Header(node="a", peers=("b",), seed=5, world="local", policies={}, config={"nested": {"of": (1, 2)}})


class Number(Message, tag="number"):
    """A number."""

    value: int


class Counter(Policy):
    """Counts requests durably, signs each count, and draws from its random stream."""

    requests = (Number,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.total, self.seen = int(saved.get("total", b"0")), {"all": [0]}

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.total += operation.value
        self.seen["all"] = [*self.seen["all"][-9:], self.total]
        self.port.save("total", str(self.total).encode())
        signed = self.port.keys.sign(b"t").hex()
        self.port.note("counted", total=sum(self.seen["all"]), draw=self.port.rng.random(), signed=signed)
        self.port.reply(client, op_id, Number(self.total))


class Signs:
    """A key handle whose signatures are numbers."""

    count = 0

    def sign(self, data: bytes) -> bytes:
        self.count += 1
        return self.count.to_bytes(64, "little")

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        raise AssertionError("unexpected verification")


def factory(header: Header) -> Callable[[Keys], Cell]:
    """Return what makes a Counter's Cell."""
    return lambda keys: Cell(Counter(), header.node, header.peers, seed=header.seed, keys=keys)


def live(path: Path, requests: int, bytes_max: int, *, life: int = 0, frozen: bool = True) -> int:
    """Take requests, and write it down as a node does; return the steps."""
    file, cell, steps = JournalFile(path, HEADER, bytes_max), factory(HEADER)(Signs()), 0

    def step(given: p.Input) -> tuple[p.Effect, ...]:
        nonlocal steps
        steps += 1
        effects = cell.step(steps, steps, given)
        file.add(steps, steps, given, effects)
        file.flush()
        if file.full:
            file.turn(cell.freeze() if frozen else b"")
        return effects

    step((p.START, "", {}, life))
    for number in range(requests):
        payload = msgspec.msgpack.encode(["number", number])
        for effect in step((p.REQUEST, "", "client", f"op-{number}", payload)):
            if effect[0] == p.SAVE:
                step((p.DURABLE, "", effect[2]))
    file.close()
    return steps


def test_a_bounded_journal_keeps_its_newest_steps_and_they_replay(tmp_path: Path) -> None:
    """Of thousands of steps two files remain, and what they hold is equal from the first kept step to the last."""
    path = tmp_path / "node.journal"
    steps = live(path, 500, 5000)
    found = replay({"a": read_journal(path)}, factory)

    assert found.divergences == ()
    assert found.begins["a"] + found.steps["a"] == steps
    assert sorted(each.name for each in tmp_path.iterdir()) == ["node.journal", "node.journal.old"]
    sizes = [each.stat().st_size for each in tmp_path.iterdir()]
    assert 5000 <= sum(sizes) < 2 * 5000 + 2000
    assert replay({"a": path.read_bytes()}, factory).passed  # the newer alone begins with a state, too


def test_a_bounded_journal_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The next life's steps stand behind the last one's, in one count, wherever the files turn."""
    path = tmp_path / "node.journal"
    steps = sum(live(path, 20 + life, 6000, life=life) for life in range(5))
    found = replay({"a": read_journal(path)}, factory)

    assert found.divergences == ()
    assert found.begins["a"] + found.steps["a"] == steps


def test_without_a_state_a_journal_is_replayed_from_its_next_start(tmp_path: Path) -> None:
    """Where the Cell has no form as bytes, the rows before the next life are left out and counted; none is wrong."""
    path = tmp_path / "node.journal"
    first = live(path, 50, 2000, frozen=False)
    assert not replay({"a": read_journal(path)}, factory).passed  # nothing could be replayed
    second = live(path, 5, 0, life=1)
    found = replay({"a": read_journal(path)}, factory)

    assert found.passed
    assert (found.begins["a"], found.steps["a"]) == (first, second)


def test_a_step_that_differs_is_counted_from_the_nodes_first(tmp_path: Path) -> None:
    """A divergence in a journal that begins later names the step's number in the node's life."""
    path = tmp_path / "node.journal"
    live(path, 200, 5000)
    header, rows = read(read_journal(path))
    state = factory(header)(Signs())
    state.thaw(header.state)
    state.policy("").total += 1  # type: ignore[attr-defined]
    wrong = msgspec.structs.replace(header, state=state.freeze())
    (divergence,) = replay({"a": _journal(wrong, read_journal(path))}, factory).divergences

    assert divergence.step > header.steps_before > 100
    assert divergence.step <= header.steps_before + 2
    assert len(list(rows)) > 2


def _journal(header: Header, other: bytes) -> bytes:
    """Return another journal's rows behind a header."""
    _, begin = next(frames(other))
    return frame(encode(header)) + other[begin:]


def test_a_journals_state_calls_nothing_but_the_policies(tmp_path: Path) -> None:
    """A journal is data: one whose state names another function is refused before anything is called."""
    path = tmp_path / "node.journal"
    live(path, 200, 5000)
    for module, name in (("posix", "mkdir"), ("policies.frozen", "pickle.loads"), ("builtins", "eval")):
        named = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode()
        call = ["value", ["global", named + b"\x93."], [str(tmp_path / "made")], None, [], []]
        header = msgspec.structs.replace(HEADER, steps_before=1, state=msgspec.msgpack.encode(call))
        with pytest.raises(UsageError, match="is none of policies, models"):
            replay({"a": _journal(header, path.read_bytes())}, factory)
    assert not (tmp_path / "made").exists()


def test_another_configuration_begins_another_file(tmp_path: Path) -> None:
    """Rows never stand under a header of other policies; the older file stays beside it."""
    path = tmp_path / "node.journal"
    steps = live(path, 3, 0)
    other = msgspec.structs.replace(HEADER, seed=6)
    file = JournalFile(path, other)
    file.close()

    assert encode(read(read_journal(path))[0]) == encode(msgspec.structs.replace(other, steps_before=steps))
    assert replay({"a": (tmp_path / "node.journal.old").read_bytes()}, factory).steps == {"a": steps}


def test_bounded_events_are_the_newest(tmp_path: Path) -> None:
    """From the bound to twice as much is kept, in order, without a gap."""
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        file = EventFile(path, 2000)
        for number in range(100):
            file.add(number, "note", "", "n", {"k": number})
        file.close()
    found = [event["now_ns"] for event in read_events(path)]

    assert found == [*range(100 - len(found), 100)]
    assert 2000 <= sum(each.stat().st_size for each in tmp_path.iterdir()) < 2 * 2000 + 100


def test_an_event_behind_a_torn_one_is_whole(tmp_path: Path) -> None:
    """A kill in the middle of a line costs that line and no other."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"now_ns":1,"name":"whole"}\n{"now_ns":2,"na')
    file = EventFile(path)
    file.add(3, "note", "", "after", {})
    file.close()

    assert [event["name"] for event in read_events(path)] == ["whole", "after"]


@contextmanager
def room(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: the kernel takes what fits, and refuses the next byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_half_of_it_is_full(tmp_path: Path) -> None:
    """What was written in part is an error, not a row or a line that nobody can read in the middle of a file."""
    events = EventFile(tmp_path / "events.jsonl")
    events.add(1, "note", "", "first", {})
    journal = JournalFile(tmp_path / "node.journal", HEADER)
    size = max(path.stat().st_size for path in tmp_path.iterdir()) + 5
    for number in range(9):
        journal.add(number, 0, (p.START, "", {}, 0), ())
    with room(size):
        with pytest.raises(OSError, match="too large"):
            journal.flush()
        with pytest.raises(OSError, match="too large"):
            _ = [events.add(2, "note", "", "second", {}) for _ in range(9)]


def test_a_real_node_bounds_its_files_and_its_journal_replays(tmp_path: Path) -> None:
    """Files turn under load and over a crash; steps that are kept are equal in fresh Cells, and clients see nothing."""
    answers: list[int] = []

    async def run() -> bytes:
        async with LocalCluster(lambda name: Counter(), ("a",), tmp_path, kept_bytes=5000) as cluster:
            for number in range(60):
                cluster.request("a", "", "client", f"op-{number}", Number(1))
                await until(lambda number=number: cluster.replies.qsize() > number)
                if number == 50:
                    await cluster.crash("a")
                    await cluster.start("a")
            await cluster.stop("a")
            while not cluster.replies.empty():
                answers.append(msgspec.msgpack.decode(cluster.replies.get_nowait().payload)[1])
            return cluster.journal("a")

    found = replay({"a": asyncio.run(run())}, factory)
    assert found.passed
    assert found.begins["a"] > 0
    assert answers == [*range(1, 61)]
    for name in ("node.journal", "events.jsonl"):
        assert all((tmp_path / "a" / f"{name}{old}").stat().st_size < 10_000 for old in ("", ".old"))
    assert "turned" in [event["name"] for event in read_events(tmp_path / "a" / "events.jsonl")]


@pytest.mark.parametrize("said", ["", "6"])
def test_a_log_of_another_wire_version_stops_its_node(tmp_path: Path, said: str) -> None:
    """Votes that it saved would be false to all others: a new folder is marked, an older log named and left alone."""
    require_version(tmp_path)
    (tmp_path / "node.log").write_bytes(b"saved")
    require_version(tmp_path)
    (tmp_path / "wire_version").write_text(said)

    with pytest.raises(
        ValueError, match=rf"node\.log: written under wire version {said or r'.older than 7.'}, and this is"
    ):
        require_version(tmp_path)
    assert (tmp_path / "wire_version").read_text() == said
    assert (tmp_path / "node.log").read_bytes() == b"saved"


def test_a_mark_that_rotted_stops_its_node_and_names_the_log(tmp_path: Path) -> None:
    """Nobody can tell which version wrote the log then, and the line says so as for another version."""
    require_version(tmp_path)
    (tmp_path / "node.log").write_bytes(b"saved")
    (tmp_path / "wire_version").write_bytes(b"\xb7")

    with pytest.raises(ValueError, match=rf"^{tmp_path}/node\.log: written under wire version \ufffd, and this is"):
        require_version(tmp_path)


def test_a_mark_without_a_log_is_brought_up_to_date(tmp_path: Path) -> None:
    """Nothing was saved under the older version yet."""
    (tmp_path / "wire_version").write_text("6")
    require_version(tmp_path)

    assert (tmp_path / "wire_version").read_text() == str(WIRE_VERSION)
