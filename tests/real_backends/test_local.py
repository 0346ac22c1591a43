"""world=local: node processes start, survive kills, and leave a record and nothing else behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from experiments import cli
from experiments.report import render
from experiments.results import Run
from policies.port import MESSAGE, START
from real_backends.cluster import until
from real_backends.gather import _device_rows
from real_backends.local import run_local
from real_backends.node import NodeConfig, load_policy, make_sensors
from real_backends.node_files import EventFile, read_events
from real_backends.processes import NodeFailed, Processes
from real_backends.sensors import report
from real_backends.sensors.host import HostSensors
from real_backends.sensors.trace import MAINS_DESK, TraceSensors
from real_backends.specs import node_kinds
from scenarios.adversaries.choose import role_in
from scenarios.journal import read
from scenarios.record import frame, write
from scenarios.schema import ScenarioError, build, to_plain
from tests.real_backends import beating
from tests.real_backends.beating import desks

FILE = beating.__file__


def _children() -> list[psutil.Process]:
    return [c for c in psutil.Process().children(recursive=True) if "real_backends.node" in " ".join(c.cmdline())]


def test_a_killed_process_restarts_with_its_log(tmp_path: Path) -> None:
    """After SIGKILL a node knows what it had announced, in a new incarnation; its journal stays readable."""

    async def run() -> tuple[list[Any], list[Any], list[int]]:
        processes = Processes(desks(2), ("desk-0", "desk-1"), tmp_path, f"{FILE}:Beating", lambda *f: None)

        def values(kind: str) -> list[int]:
            events = read_events(tmp_path / "desk-1" / "events.jsonl")
            return [event["detail"][1] for event in events if event["name"] == kind]

        try:
            await processes.start_all()
            await until(lambda: len(values("beat")) >= 5)
            await processes.kill("desk-1")
            before = values("beat")
            await processes.start("desk-1")
            await until(lambda: len(values("beat")) > len(before) + 5)
            return before, values("restored"), values("beat")
        finally:
            await processes.stop_all()

    before, restored, beats = asyncio.run(run())
    assert restored[0] == 0
    assert restored[1] >= before[-1]  # what was announced was durable
    assert beats[len(before)] == restored[1] + 1
    _, rows = read((tmp_path / "desk-1" / "node.journal").read_bytes())
    assert [row[2][3] for row in rows if row[2][0] == START] == [0, 1]
    assert _children() == []


def test_liars_keep_to_the_times_of_the_run(tmp_path: Path) -> None:
    """They count from a moment when every process was up, the same for all, however long starting took."""
    silent = {"kind": "silent", "from_s": 0.5}
    scenario = desks(
        3, 3, duration_s=1.0, adversaries=[{"committee": [1, 2], "behaviours": [silent]}], adversaries_max=2
    )
    record = run_local(scenario, tmp_path, policy=f"{FILE}:Beating")

    journals = {name: read(journal) for name, journal in record.journals.items()}
    roles = {name: role_in(header.config) for name, (header, _) in journals.items()}
    assert roles["desk-0"] is None
    (begun_ns,) = {role.begun_ns for role in roles.values() if role is not None}
    now_ns, wall_ns, *_ = next(iter(journals["desk-0"][1]))
    begun_wall_ns = begun_ns + wall_ns - now_ns
    assert now_ns > begun_ns
    assert all(path.stat().st_mtime_ns < begun_wall_ns for path in tmp_path.glob("desk-*.stderr"))


def test_events_have_bytes_as_hexadecimal_text(tmp_path: Path) -> None:
    """JSON has no bytes, and signatures in evidence read the same in both worlds' tables."""
    events = EventFile(tmp_path / "events.jsonl")
    events.add(1, "decide", "consensus", "evidence", ["evidence", "d", [b"\x01\xff", b""]])
    events.close()

    assert [event["detail"] for event in read_events(tmp_path / "events.jsonl")] == [["evidence", "d", ["01ff", ""]]]


def test_a_partition_cuts_the_link_between_two_processes(tmp_path: Path) -> None:
    """While the first node is cut off the others hear nothing from it; the record says when, and by which layer."""
    scenario = desks(2, duration_s=2.0, faults=[{"kind": "partition", "at_s": 0.5, "group": [0], "for_s": 0.5}])
    record = run_local(scenario, tmp_path, policy=f"{FILE}:pair")

    assert [row[1:5] for row in record.tables["faults"]] == [
        ("partition", "desk-0", "start", "transport"),
        ("partition", "desk-0", "end", "transport"),
    ]
    assert sum(node["faults"].get("cut", 0) for node in record.manifest["nodes"].values()) > 10
    assert record.manifest["fault_layers"] == {"partition": ["transport"]}
    assert record.summary["requests_total"] == 0
    assert {row[2] for row in record.tables["decisions"]} == {"one", "two"}


def test_a_cut_that_names_a_role_parts_whoever_has_it(tmp_path: Path) -> None:
    """The leader and the node it is cut from hear nothing from each other for a while, and the third hears both."""
    fault = {"kind": "cut", "at_s": 0.7, "for_s": 1.0, "pairs": [["leader", "desk-2"]]}
    record = run_local(desks(3, 3, duration_s=2.5, faults=[fault]), tmp_path, policy=f"{FILE}:Leading")
    nodes = record.manifest["nodes"]

    assert [row[1:5] for row in record.tables["faults"]] == [
        ("cut", "desk-0-desk-2", "start", "transport"), ("cut", "desk-0-desk-2", "end", "transport"),
    ]  # fmt: skip
    assert {name for name in nodes if nodes[name]["faults"].get("cut", 0) > 10} == {"desk-0", "desk-2"}
    times = {name: _heard(journal, "desk-0") for name, journal in record.journals.items()}
    begin, end = max(pairwise(times["desk-2"]), key=lambda gap: gap[1] - gap[0])
    assert end - begin > 0.9e9
    assert sum(begin < at < end for at in times["desk-1"]) > 10


def _heard(journal: bytes, sender: str) -> list[int]:
    """Return when a node heard another, ns of the host's monotonic clock."""
    return [row[0] for row in read(journal)[1] if row[2][0] == MESSAGE and row[2][2] == sender]


def test_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """A node that cannot listen ends the run with one line that names node and port; nothing is left running."""

    async def run() -> None:
        processes = Processes(desks(1), ("desk-0",), tmp_path, f"{FILE}:Beating", lambda *f: None)
        with socket.create_server(processes.addresses["desk-0"]):
            try:
                await processes.start_all()
            finally:
                await processes.stop_all()

    with pytest.raises(NodeFailed, match=r"desk-0 ended with exit code 2: port \d+ on 127.0.0.1 .*in use"):
        asyncio.run(run())
    assert _children() == []


def test_a_faulty_policy_ends_the_run(tmp_path: Path) -> None:
    """The user hears which node ended, and the policy's own last words with their line."""
    with pytest.raises(NodeFailed, match=r"desk-0 ended with exit code 3: \d+: ZeroDivisionError: in the policy"):
        run_local(desks(1), tmp_path, policy=f"{FILE}:Broken")
    assert _children() == []


@pytest.mark.parametrize("raised", ["1 / 0", "int('x')"])
def test_what_a_users_policy_raises_is_one_line_in_either_world(
    raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same line of the user's file, the same words, exit code 2 and no Run, in nodes' processes as in the twin."""
    monkeypatch.setenv("VILLAGETWIN_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from policies.port import Policy\n"
        "class Mine(Policy):\n"
        "    def on_start(self, saved):\n"
        f"        return {raised}\n"
    )
    said = []
    for world in ("sim", "local"):
        words = [f"world={world}", "scenario=four_desks", "fleet.desktops=1", "fleet.committee=1", "profile=''"]
        assert cli.main(["run", *words, "-p", "mine.py", "track=none", "-q"]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert said[1].startswith("twin: -p mine.py:4: ")
    assert not list(tmp_path.rglob("manifest.json"))
    assert _children() == []


LAUNCHER = """
import sys
from itertools import pairwise
from pathlib import Path
import msgspec
from real_backends.local import run_local
from scenarios.schema import build

scenario = build(msgspec.json.decode(sys.argv[1]))
run_local(scenario, Path(sys.argv[2]), policy=sys.argv[3], progress=lambda share, text: print(text, flush=True))
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_launcher_leaves_no_process_behind(tmp_path: Path, sign: signal.Signals) -> None:
    """Ctrl-C stops the nodes; when the launcher is killed outright they see its end and stop by themselves."""
    plain = json.dumps(to_plain(desks(2, duration_s=60.0)))
    root = Path(__file__).parents[2]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, plain, str(tmp_path), f"{FILE}:Beating"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        assert launcher.stdout is not None
        while "requests ended" not in launcher.stdout.readline():
            assert launcher.poll() is None
        nodes = psutil.Process(launcher.pid).children()
        assert len(nodes) == 2
        launcher.send_signal(sign)
        launcher.wait(20)
        _, alive = psutil.wait_procs(nodes, timeout=20)
        assert alive == []
    finally:
        launcher.kill()
        launcher.communicate()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "llama-3.2-1b"}, r"model='llama-3.2-1b': world=local can run 'desk-tiny'"),
        ({"profile": "nowhere.json"}, r"profile='nowhere.json': cannot be read"),
        ({"workload": {"kind": "synthetic", "requests": 1, "prompt_tokens": 300, "new_tokens": 1}},
         r"workload: a request has 301 tokens; desk-tiny takes 256"),
        ({"sensors": "trace:nowhere.csv"}, r"nowhere.csv"),
        ({"fleet": {"phones": 99}}, r"fleet has 199 devices: world=local runs 1 to 32"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A scenario that one machine cannot run is refused before any process starts or file is written."""
    with pytest.raises(ScenarioError, match=message):
        run_local(desks(2, **changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "message"),
    [("nowhere.py:X", "no file 'nowhere.py'"), ("{}:Missing", "the file has Beating, Leading, Broken, Sensing"),
     ("{}", "expected FILE")],
)  # fmt: skip
def test_a_wrong_policy_is_one_clear_line(where: str, message: str) -> None:
    """The error names what was asked for and what the file has."""
    with pytest.raises(ValueError, match=message):
        load_policy(where.format(FILE))


def test_committee_comes_from_the_mains() -> None:
    """Machines on the mains come first, and a fleet of desktops alone has the short names."""
    mixed = build({"name": "x", "fleet": {"phones": 1, "tablets": 0, "laptops": 1, "desktops": 1, "gpu_boxes": 1,
                                          "dedicated": 0, "committee": 2}})  # fmt: skip

    assert node_kinds(mixed) == {
        "desktop-0": "desktop", "gpu-box-0": "gpu_box", "laptop-0": "laptop", "phone-0": "phone",
    }  # fmt: skip
    assert list(node_kinds(desks(2))) == ["desk-0", "desk-1"]


def test_host_sensors_give_a_whole_row() -> None:
    """Whatever this machine lacks has its neutral value and is listed."""
    sensors = make_sensors(desks(1, sensors="host"))
    assert isinstance(sensors, HostSensors)
    row = sensors.read(0)

    assert 0 <= row.soc <= 1
    assert 0 <= row.user_load <= 1
    assert 0 <= row.local_minute < 1440
    assert {"skin_c", "metered", "screen", "idle"} <= set(sensors.missing)


HEAD = (
    "time_s,has_battery,soc_percent,plugged,die_c,battery_c,on_wifi,metered,bandwidth_mbps,screen_on,idle_min,"
    "local_minute,user_load\n"
)


def test_sensors_that_vanish_mid_run_are_counted_and_shown(tmp_path: Path) -> None:
    """Missing, assumed and gone sensors are in the manifest; an unknown temperature is NaN in a column of floats."""
    trace = tmp_path / "heat.csv"
    trace.write_text(f"{HEAD}0,true,80,true,40,30,true,false,50,false,9,60,0\n0.5,true,80,true,,30,true,,50,,9,60,0\n")
    changes = {"sensors": f"trace:{trace}", "assume": {"skin_c": 33}, "record": {"devices_every_s": 0.5}}
    scenario = desks(2, duration_s=1.5, reading_s=0.5, **changes)
    folder = tmp_path / "work"
    folder.mkdir()
    record = run_local(scenario, folder, policy=f"{FILE}:Sensing")
    manifest, devices = json.loads(json.dumps(record.manifest)), frame("devices", record.tables["devices"])

    assert (manifest["sensors_missing"], manifest["sensors_assumed"]) == (["memory", "skin_c"], {"skin_c": 33.0})
    assert set(manifest["sensors_gone"]) == {"die_c", "metered", "screen"}
    assert manifest["sensors_gone"]["die_c"] == sum(n["sensors_gone"]["die_c"] for n in manifest["nodes"].values()) > 4
    assert all(devices[column].dtype == np.float64 for column in ("soc", "die_c", "skin_c"))
    assert devices["die_c"].isna().any()
    assert set(devices["die_c"].dropna()) == {40.0}
    assert set(devices["skin_c"]) == {33.0}
    assert devices["screen_on"].dtype == bool
    page = render(Run(record, write(record, tmp_path / "run")))
    assert "die_c: " in page[page.index("sensors_gone") :][:200]


def test_a_device_that_never_knew_its_heat_leaves_a_column_of_floats() -> None:
    """An event's null is NaN, also where no row of the column has a number."""
    detail = {**msgspec.structs.asdict(MAINS_DESK), "soc": None, "die_c": None, "skin_c": None}
    event = {"now_ns": 7, "kind": "readings", "path": "", "name": "row", "detail": detail}
    devices = frame("devices", _device_rows(desks(1), [("desk-0", event)], {"desk-0": "desktop"}, 0))

    assert all(devices[column].dtype == np.float64 for column in ("soc", "die_c", "skin_c"))
    assert devices[["soc", "die_c", "skin_c"]].isna().all(axis=None)


def test_a_scenario_chooses_any_reader_and_lays_assumptions_over_it() -> None:
    """What a scenario names is what a node opens."""
    host = make_sensors(desks(1, sensors="host", assume={"skin_c": 31}))
    merged = make_sensors(desks(1, sensors=["sysfs", "psutil"], assume={"metered": False}))

    assert report(host)["assumed"]["skin_c"] == 31.0
    assert report(merged)["assumed"] == {"metered": False}
    assert {"screen", "idle"} <= set(report(merged)["missing"])


def test_trace_sensors_follow_their_times() -> None:
    """A row is in force from its time on, counted from the first reading; the last one stays."""
    warm = msgspec.structs.replace(MAINS_DESK, die_c=60.0)
    sensors = TraceSensors([(0.0, MAINS_DESK), (2.0, warm)])
    start_ns = 5_000_000_000

    given = [sensors.read(start_ns + int(at_s * 1e9)).die_c for at_s in (0, 1.999, 2, 100)]
    assert given == [35.0, 35.0, 60.0, 60.0]
    with pytest.raises(ValueError, match="at least one row"):
        TraceSensors([])


def test_node_configuration_is_closed() -> None:
    """A configuration with an unknown field is refused rather than half understood."""
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"name": "a", "colour": 1}', type=NodeConfig)
