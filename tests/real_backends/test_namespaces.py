"""Cuts by the kernel: each node in a network namespace of its own, and nothing left of it whatever ends the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from policies import election
from policies.port import MESSAGE, PEER
from real_backends import local, namespaces
from real_backends.cluster import until
from real_backends.link_faults import parted
from real_backends.local import run_local
from real_backends.namespaces import Namespaces, NotPermitted
from real_backends.transports.tls import SILENT_S
from scenarios.faults import Cut, Partition
from scenarios.journal import read
from scenarios.schema import Scenario, ScenarioError, to_plain
from tests.real_backends.beating import desks

ELECTION = f"{election.__file__}:Election"
DIAL = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"


def _scenario(**changes: Any) -> Scenario:
    return desks(3, 3, **{"cuts": "namespace", **changes})


@pytest.fixture
def network() -> Iterator[Namespaces]:
    """The network of three nodes, or no test where this machine permits none."""
    try:
        found = Namespaces(("a", "b", "c"))
    except NotPermitted as error:
        pytest.skip(f"network namespaces are not permitted here: {error}")
    with found:
        yield found


def _dial(network: Namespaces, source: str, target: str) -> str:
    """Return the last words of a TCP connection from one node to another, where nobody listens."""
    host, port = network.addresses[target]
    command = (*network.enter(source), sys.executable, "-S", "-c", DIAL, host, str(port))
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()[-1]


def test_the_kernel_parts_a_pair_and_nobody_else(network: Namespaces) -> None:
    """A packet of either end meets a dead route, until the last of two equal cuts has ended; all others pass."""
    link = f"vt-{network.addresses['a'][0].split('.')[2]}"
    assert link in psutil.net_if_addrs()
    refused = "ConnectionRefusedError: [Errno 111] Connection refused"  # it came through: nobody listens there
    network.part({("a", "b")})
    network.part({("a", "b")})
    network.join({("a", "b")})
    dead = [_dial(network, *pair) for pair in (("a", "b"), ("b", "a"))]
    alive = [_dial(network, *pair) for pair in (("a", "c"), ("c", "b"), ("a", "owner"))]
    network.join({("a", "b")})

    assert dead == ["OSError: [Errno 22] Invalid argument"] * 2
    assert alive == [refused] * 3
    assert _dial(network, "a", "b") == refused
    network.close()
    assert link not in psutil.net_if_addrs()


def test_a_village_survives_a_cut_of_its_leader(network: Namespaces, tmp_path: Path) -> None:
    """The others elect another one; the old leader's links are found dead, and after the cut it follows the new one."""
    cut_s = SILENT_S + 1.5
    fault = {"kind": "partition", "at_s": 1.5, "group": ["leader"], "for_s": cut_s}
    record = run_local(_scenario(duration_s=cut_s + 3.0, faults=[fault]), tmp_path, policy=ELECTION)

    (_, _, old, *_), (_, new, *_) = record.tables["faults"][0], record.tables["decisions"][-1]
    assert [row[1:5] for row in record.tables["faults"]] == [
        ("partition", old, "start", "namespace"), ("partition", old, "end", "namespace"),
    ]  # fmt: skip
    assert (record.manifest["cuts"], record.manifest["fault_layers"]) == ("namespace", {"partition": ["namespace"]})
    terms = [json.loads(row[4])[1] for row in record.tables["decisions"]]
    assert len(set(terms)) == len(terms) > 1  # one leader a term
    assert new != old

    rows = {name: list(read(journal)[1]) for name, journal in record.journals.items()}
    heard_ns = [row[0] for row in rows[new] if row[2][0] == MESSAGE and row[2][2] == old]
    assert max(b - a for a, b in zip(heard_ns, [*heard_ns[1:], rows[new][-1][0]], strict=True)) > (cut_s - 1.0) * 1e9
    down = next(k for k, row in enumerate(rows[old]) if row[2] == (PEER, "", new, "down"))  # not the last: all stop
    assert any(row[2][0] == MESSAGE and row[2][2] == new for row in rows[old][down:])
    assert sum(node["faults"].get("cut", 0) for node in record.manifest["nodes"].values()) == 0


LAUNCHER = """
import sys
from pathlib import Path
import msgspec
from real_backends.link_faults import parted
from real_backends.local import run_local
from scenarios.schema import build

run_local(build(msgspec.json.decode(sys.argv[1])), Path(sys.argv[2]), policy=sys.argv[3], progress=print)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_launcher_takes_the_network_away(
    network: Namespaces, tmp_path: Path, sign: signal.Signals
) -> None:
    """After Ctrl-C, and when nobody was left to tidy up, neither link nor process of the run is there."""
    plain = json.dumps(to_plain(_scenario(duration_s=60.0)))
    launcher = subprocess.Popen(
        [sys.executable, "-u", "-c", LAUNCHER, plain, str(tmp_path), ELECTION], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        assert launcher.stdout is not None
        while "requests ended" not in launcher.stdout.readline():
            assert launcher.poll() is None
        addresses = json.loads((tmp_path / "desk-0.json").read_text())["addresses"]
        link = f"vt-{addresses['owner'][0].split('.')[2]}"
        assert link in psutil.net_if_addrs()
        children = psutil.Process(launcher.pid).children()
        assert len(children) == 7  # three nodes, their three namespaces, and the bridge's
        launcher.send_signal(sign)
        launcher.wait(20)
        assert psutil.wait_procs(children, timeout=20)[1] == []
        asyncio.run(until(lambda: link not in psutil.net_if_addrs(), 20))
    finally:
        launcher.kill()
        launcher.communicate()


def test_where_namespaces_are_not_permitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scenario that insists is refused in one line before anything is written; ``auto`` cuts above TLS instead."""
    monkeypatch.setattr(namespaces, "HOLDER", ("sh", "-c", "echo 'unshare: not today' >&2"))
    with pytest.raises(ScenarioError, match=r"^cuts='namespace': not permitted here \(unshare: not today\); allowed"):
        run_local(_scenario(), tmp_path, policy=ELECTION)
    assert list(tmp_path.iterdir()) == []
    with local._network(_scenario(cuts="auto")) as nothing:
        assert nothing is None

    monkeypatch.setattr(namespaces, "HOLDER", ("no-such-command",))
    with pytest.raises(ScenarioError, match="no-such-command"):
        run_local(_scenario(), tmp_path, policy=ELECTION)


def test_a_fault_parts_its_pairs_and_no_other() -> None:
    """A partition parts each node inside from each outside, a cut the pairs it names, each once."""
    names = ("a", "b", "c", "d")

    inside = parted(Partition(at_s=0, group=("d", "a")), ["d", "a"], names)
    assert inside == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert parted(Cut(at_s=0, pairs=(("b", "a"), ("a", "b"))), ["a", "b"], names) == {("a", "b")}
