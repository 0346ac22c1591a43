"""`twin serve --model DIR`: what cannot be served is one line before any process starts; what can is cut as said."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import psutil
import pytest

from experiments import cli
from experiments.calibration import executor
from experiments.gap.errors import kv_peak_bytes
from experiments.results import simulate
from experiments.serve_village import profile_of, scenario_of_checkpoint
from policies.coordination.lines import candidate
from policies.problem import Plan
from policies.sharding import PLANNERS
from policies.wire import encode
from real_backends.executors import make_checkpoint, save_checkpoint
from real_backends.executors.llama_layout import stored_name
from real_backends.executors.seeded import RECIPES
from real_backends.executors.tensor_file import write_tensor_file
from real_backends.models import open_model, shape_of, spec_of
from real_backends.specs import node_spec
from scenarios.hosts import UNMEASURED, read_profile
from scenarios.schema import Scenario, build, to_plain

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("torch")

SPEC = replace(RECIPES["tiny"].spec, name="speaker")
WEIGHTS = make_checkpoint(SPEC, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that can be served."""
    save_checkpoint(tmp_path / "speaker", SPEC, WEIGHTS)
    return tmp_path / "speaker"


def configure(**changes: object) -> Callable[[Path], None]:
    """Return what changes config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def store(tensors: dict[str, np.ndarray]) -> Callable[[Path], None]:
    """Return what replaces the tensors."""
    stored = {stored_name(name): tensor for name, tensor in tensors.items()}
    return lambda folder: write_tensor_file(folder / "model.safetensors", stored, "F32")


def without(name: str) -> dict[str, np.ndarray]:
    """Return the tensors but one."""
    return {other: tensor for other, tensor in WEIGHTS.items() if other != name}


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (store(without("layers.2.q")), [], "checkpoint speaker: tensor 'layers.2.q' is missing"),
        (store(WEIGHTS | {"layers.2.q": np.zeros((64, 63), np.float32)}), [], "'layers.2.q' is float32 (64, 63)"),
        (configure(architectures=["MambaForCausalLM"]), [], "architecture 'MambaForCausalLM' is unknown, allowed: Ll"),
        (configure(num_hidden_layers="four"), [], "checkpoint speaker: config.json: layers: 'four' is not allowed"),
        (lambda folder: (folder / "config.json").unlink(), [], "checkpoint speaker: config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), [], "config.json is not JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), [], "holds neither model.safetensors nor"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), [], "checkpoint speaker: "),
        (lambda folder: None, ["--shards", "5", "--workers", "6"], "shards: 5 are not allowed, 'speaker' has 4 layers"),
        (lambda folder: None, ["--shards", "4"], "--shards 4: allowed: 1 to 3, the number of workers"),
        (lambda folder: None, ["--shards", "0"], "--shards 0: allowed: 1 to 3"),
        (lambda folder: None, ["--context", "513"], "context=513 is not allowed, the model takes 1 to 512"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_served_is_one_line(
    folder: Path, spoil: Callable[[Path], object], words: list[str], said: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """The line names what is wrong, the exit code is that of the user's input, and nothing is left behind."""
    spoil(folder)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("VILLAGETWIN_HOME", str(tmp_path / "home"))
    assert cli.main(["serve", "--port", "0", "--model", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (tmp_path / "home").exists()


def test_a_smaller_model_that_is_not_smaller_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many bytes or more than the first, whether that is a checkpoint or seeded, before any process starts."""
    larger = replace(SPEC, name="larger", layers=SPEC.layers + 1)
    save_checkpoint(tmp_path / "larger", larger, make_checkpoint(larger, 1))
    save_checkpoint(tmp_path / "same", replace(SPEC, name="same"), WEIGHTS)
    monkeypatch.setenv("VILLAGETWIN_HOME", str(tmp_path / "home"))
    for name in ("larger", "same"):
        words = ["--model", str(folder), "--smaller", str(tmp_path / name)]
        assert cli.main(["serve", "--port", "0", *words]) == 2
        error = capsys.readouterr().err
        assert f"smaller[0].model='{name}': its weights take " in error
        assert "expected fewer than the " in error
        assert "of 'speaker' before it" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_a_model_that_fits_nowhere_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much is needed and how much there is."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    assert cli.main(["serve", "--port", "0", "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "3 workers with room for 2 of 4 layers and 8 sessions of 512 tokens need 0.0 GiB; this machine" in error
    assert error.count("\n") == 1


def test_a_tokenizer_whose_library_does_not_load_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], broken: Callable[[str], None]
) -> None:
    """It names what to install, rather than to speak another language than the model's."""
    (folder / "tokenizer.json").write_text("{}")
    broken("tokenizers")
    assert cli.main(["serve", "--port", "0", "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    needs = "which needs tokenizers: libtokenizers.so is of another version: pip install 'villagetwin[tokenizer]'"
    assert f"checkpoint speaker: has a tokenizer.json, {needs}" in error
    assert error.count("\n") == 1


def test_bytes_need_so_many_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model without a tokenizer, of fewer ids than bytes have, is refused."""
    few = replace(SPEC, vocab=200)
    save_checkpoint(tmp_path / "few", few, make_checkpoint(few, 1))
    assert cli.main(["serve", "--port", "0", "--model", str(tmp_path / "few")]) == 2
    assert "vocab_size=200: without a tokenizer.json tokens are bytes, and need 257" in capsys.readouterr().err


@pytest.mark.parametrize(("workers", "shards"), [(1, 1), (3, 1), (3, 2), (3, 3), (5, 4)])
def test_the_model_is_cut_as_said(folder: Path, workers: int, shards: int) -> None:
    """By its planner over the memory that its workers offer and lend."""
    scenario = scenario_of_checkpoint(workers, folder, shards, None)
    spec, harvest = node_spec(scenario, "desk-0"), to_plain(scenario)["policy"]["harvest"]
    lent_bytes = spec.capability.memory_bytes * harvest["max_memory"]
    able = msgspec.structs.replace(spec.capability, memory_bytes=lent_bytes)
    pool = tuple(candidate(f"desk-{number}", able) for number in range(workers))
    problem = msgspec.structs.replace(spec.card, workers=pool)
    plan = msgspec.msgpack.decode(PLANNERS["latency_dp"](encode(problem), workers), type=Plan)
    parts = -(-SPEC.layers // -(-SPEC.layers // shards))  # four layers in three parts are two and two
    assert [len(pipeline) for pipeline in plan.pipelines] == [parts] * (workers // parts)


def test_both_worlds_have_the_checkpoints_shape(folder: Path) -> None:
    """What the workers load is the files' model, in the context asked for; the twin runs it from plain data alone."""
    scenario = scenario_of_checkpoint(3, folder, 2, 128)
    assert spec_of(scenario) == replace(SPEC, context=128)
    spec, weights = open_model(scenario)
    assert np.array_equal(np.asarray(weights["layers.1.q"]), WEIGHTS["layers.1.q"])
    plain = to_plain(scenario)
    assert build(json.loads(json.dumps(plain))) == scenario
    assert scenario.served == shape_of(spec)
    workload = plain["workload"] | {"requests": 4, "prompt_tokens": 8, "new_tokens": 5}
    twin: Scenario = build(plain | {"world": "sim", "duration_s": 40.0, "workload": workload})
    run = simulate(twin)
    assert list(run.requests["status"]) == ["answered"] * 4
    a_session = 4.0 * 2 * SPEC.kv_heads * SPEC.head_dim * SPEC.layers * 16  # 8 + 5 - 1 tokens: a block, in float32
    assert kv_peak_bytes(run) in [count * a_session for count in (1, 2, 3, 4)]


def test_a_checkpoints_profile_has_the_times_of_its_own_layers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's times are this machine's, the layers' are measured with the checkpoint, once."""
    machine = tmp_path / "torch-machine.json"
    machine.write_text(json.dumps(dict(UNMEASURED) | {"hop_s": 0.123}))
    monkeypatch.setattr(executor, "auto_profile", lambda scenario, quiet: str(machine))
    monkeypatch.setattr(executor, "SECONDS", 0.2)
    scenario = scenario_of_checkpoint(3, folder, 2, None)
    path = profile_of(scenario, quiet=True)
    found = read_profile(path)
    assert path != str(machine)
    assert (found["hop_s"], found["spec"]) == (0.123, "speaker")
    assert found["decode_s_layer"] != UNMEASURED["decode_s_layer"]
    written = Path(path).stat().st_mtime_ns
    assert profile_of(scenario, quiet=True) == path
    assert Path(path).stat().st_mtime_ns == written
