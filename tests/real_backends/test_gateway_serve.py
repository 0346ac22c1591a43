"""`twin serve` with processes: it answers, a killed worker ends no stream, and a Run is all that is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from experiments.folders import all_runs
from experiments.gap.predict import predict
from experiments.results import Run
from experiments.serve_village import scenario_of
from policies.coordination.efforts import WITHDRAWN
from real_backends.executors import DEFAULT_SEED, DESK_TINY, Pipeline, decode, encode, make_checkpoint, make_shard
from real_backends.gateway.asking import Asking
from real_backends.gateway.metrics import Metrics
from real_backends.node_files import read_events
from real_backends.processes import NodeFailed, Processes
from real_backends.specs import node_kinds

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("torch")

from real_backends.gateway.server import Keeper, _stoppable, first_answer

ROOT = Path(__file__).resolve().parents[2]
PROMPT, TOKENS = "Hello, village.", 150


@contextmanager
def served(home: Path, *words: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Run the command; yield its address and processes, then interrupt it and hold it to what it promises."""
    command = [sys.executable, "-m", "experiments.cli", "serve", "--port", "0", "--json", "-q", "--profile", "", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VILLAGETWIN_HOME": str(home)}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield said["url"], said["processes"]
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 0
        assert not psutil.wait_procs(children, timeout=10)[1]
    finally:
        process.kill()
        process.wait()


def get(url: str, body: Any = None) -> Any:
    """Return an open answer."""
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(url, data), timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "serving"),
    [("desk-0", "one_by_one"), ("desk-1", "one_by_one"), ("desk-2", "one_by_one"), ("desk-1", "batched")],
)
def test_a_killed_worker_ends_no_stream_and_a_run_tells_of_it(victim: str, serving: str, tmp_path: Path) -> None:
    """Whichever dies, head, stage or leader: the text is what one process alone says, each token once.

    The Run has every request with its outcome, the kill, and checks that hold.
    """
    shard = make_shard("torch", DESK_TINY, make_checkpoint(DESK_TINY, DEFAULT_SEED), 0, DESK_TINY.layers)
    expected = decode(Pipeline([shard]).generate(encode(PROMPT), TOKENS))
    body = {"model": "desk-tiny", "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    with served(tmp_path, "--serving", serving) as (url, processes):
        whole = json.load(get(f"{url}/v1/completions", body))
        assert whole["choices"][0]["text"] == expected
        texts: list[str] = []
        for line in get(f"{url}/v1/completions", body | {"stream": True}):
            if line.startswith(b"data: {"):
                texts.append(json.loads(line.removeprefix(b"data: "))["choices"][0]["text"])
                if len(texts) == 10:
                    os.kill(processes[victim], signal.SIGKILL)
        assert "".join(texts) == expected
        assert len(texts) > TOKENS // 2  # it came as it was made
        metrics = get(f"{url}/metrics").read().decode()
        assert "villagetwin_differing_tokens_total 0" in metrics
        drawn = {"temperature": 1.5, "seed": 5, "max_tokens": 12}
        first, second = (json.load(get(f"{url}/v1/completions", body | drawn)) for _ in range(2))
        assert first["choices"] == second["choices"]
    (folder,) = all_runs(tmp_path / "runs")
    run = Run(folder=folder)
    rows = run.requests
    assert [check.name for check in run.checks if not check.passed] == []
    assert list(rows["status"]) == ["answered"] * 4
    assert list(rows["tokens"]) == list(rows["new_tokens"]) == [TOKENS, TOKENS, 12, 12]
    assert list(rows["prompt_tokens"]) == [len(encode(PROMPT))] * 4
    assert rows["output"].nunique() == 2  # the greedy answers are one, and the drawn ones are another
    assert rows["correct"].all()
    assert rows["arrival_s"].is_monotonic_increasing
    assert (rows["latency_s"] > rows["first_token_s"]).all()
    assert list(run.faults["phase"][run.faults["node"] == victim])[:1] == ["start"]  # it may not be back by the end
    assert run.manifest["policies"]
    assert run.config["policy"]["serving"]["rule"] == serving
    assert run.config["duration_s"] > rows["arrival_s"].max()
    assert (folder / "report.html").stat().st_size > 1000
    assert [(fault["kind"], fault["node"]) for fault in run.config["faults"]] == [("crash", victim)]
    predicted = predict(run)  # by the twin, with these arrivals, lengths, and the crash
    assert list(predicted.requests["status"]) == ["answered"] * 4


@pytest.mark.slow
def test_a_client_that_leaves_in_mid_stream_frees_its_caches(tmp_path: Path) -> None:
    """Its request ends in the log as withdrawn, and no worker holds a session of it any more."""
    scenario = scenario_of(3, "desk-tiny")
    names = tuple(node_kinds(scenario))

    async def run() -> None:
        processes = Processes(scenario, names, tmp_path, "", lambda *frame: asking.on_frame(*frame))
        asking = Asking(processes.owner, names, scenario.model, 1.0, 300.0, Metrics())

        async def held() -> int:
            return sum([(await processes.ask(name, "state"))["active"] for name in names])

        try:
            await processes.start_all()
            async with asyncio.timeout(120):
                await first_answer(asking)
                asking.book.begin(time.monotonic_ns())
                tokens = asking.ask(encode(PROMPT), 240)
                await anext(tokens)
                assert await held() > 0
                await tokens.aclose()
                while await held() > 0:
                    pass  # each question waits for three answers
        finally:
            await processes.stop_all()
        (entry,) = asking.book.asked
        ends = [
            event["detail"][3] for name in names for event in read_events(tmp_path / name / "events.jsonl")
            if event["name"] == "settled" and event["detail"][2] == entry.request.op_id
        ]  # fmt: skip
        assert ends == [WITHDRAWN]

    asyncio.run(run())


def test_what_fell_is_a_fault_for_the_twin() -> None:
    """Each fall with the time until its process was started again; for ever where it was not."""
    keeper = Keeper()
    keeper.falls = [
        (1.0, "crash", "desk-0", "start", "process", "{}"), (2.0, "crash", "desk-1", "start", "process", "{}"),
        (3.5, "crash", "desk-0", "end", "process", "{}"), (9.0, "crash", "desk-0", "start", "process", "{}"),
        (11.0, "crash", "desk-0", "end", "process", "{}"),
    ]  # fmt: skip
    assert [(fault.at_s, fault.node, fault.down_s) for fault in keeper.crashes()] == [
        (1.0, "desk-0", 2.5), (2.0, "desk-1", -1.0), (9.0, "desk-0", 2.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers 0: allowed: 1 to 32"),
        (["--port", "70000"], "--port 70000: allowed: 0 to 65535"),
        (["--model", "gpt"], "gpt"),
        (["--model", ""], "--model '': no such folder"),
        (["--serving", "fast"], "one_by_one"),
        (["--context", "1"], "--context 1: allowed: from 16"),
    ],
)
def test_wrong_options_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be served is said before any process starts, with the exit code of the user's input."""
    from experiments import cli

    assert cli.main(["serve", "--port", "0", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It names what to install."""
    from experiments import cli

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve"]) == 2
    error = capsys.readouterr().err
    assert "serve needs uvicorn: import of uvicorn halted" in error
    assert error.endswith("pip install 'villagetwin[gateway]'\n")


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No process starts, and the line says what to do."""
    import socket

    from experiments import cli

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "another port" in capsys.readouterr().err


def test_the_folder_of_a_village_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it could not start."""
    from experiments import cli

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cli.main(["serve", "--port", "0", "--model", "llama-3.2-3b"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "exits", "says"), [(2, 2, "not finite"), (1, 1, "not finite"), (None, 1, "not ready")]
)
def test_a_node_that_cannot_start_is_one_line(
    code: int | None,
    exits: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """What a node refuses is the user's, as a checkpoint's values that are not finite; nodes alone read them."""
    from experiments import cli

    async def fails(self: Processes) -> None:
        raise NodeFailed(f"desk-0: {says}", code)

    monkeypatch.setattr(Processes, "start_all", fails)
    monkeypatch.setenv("VILLAGETWIN_HOME", str(tmp_path))
    assert cli.main(["serve", "--port", "0", "--profile", "", "-q"]) == exits
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_second_interrupt_does_not_cost_what_was_served() -> None:
    """Once told to stop, a village is written down whatever comes; until then nothing is changed for good."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    async def stopped(*, told: bool) -> None:
        async with _stoppable() as stop:
            if told:
                os.kill(os.getpid(), signal.SIGINT)
                await stop.wait()

    try:
        asyncio.run(stopped(told=False))
        assert [signal.getsignal(number) for number in numbers] == before
        asyncio.run(stopped(told=True))
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
