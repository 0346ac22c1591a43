"""`twin checkpoint`: what it writes, what it prints, and what it refuses before it writes anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

from experiments import cli
from real_backends import executors as ex
from real_backends.executors import seeded

TINY_SHA256 = "57ae254768404bd952e07924c2099f4175585608a0a3b3867b3c31856b5ba3b4"


def test_tiny_is_the_same_bytes_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seed 1 gives the content whose digest stands here; the command shows it with the measured gaps."""
    folder = tmp_path / "models" / "tiny"
    assert cli.main(["checkpoint", "tiny", str(folder), "--positions", "512", "--files", "2", "--json", "-q"]) == 0
    shown = json.loads(capsys.readouterr().out)

    assert shown["sha256 of the float32 content"] == TINY_SHA256
    assert shown["parameters"] == 262_720
    assert shown["top-2 gaps above 1e-3, share"] >= seeded.SHARE_MIN
    spec, weights = ex.open_checkpoint(folder)
    assert ex.checkpoint_digest(spec, weights) == TINY_SHA256
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_the_heads_scale_decides_nearly_every_token() -> None:
    """Of 8,192 gaps of `tiny` at most 0.1 % lie below 1e-3, and about as many as the law of its scale says."""
    spec = seeded.RECIPES["tiny"].spec
    gaps = seeded.top_two_gaps("torch", spec, ex.make_checkpoint(spec, 2, seeded.HEAD_GAIN), 8192)

    assert seeded.decided(gaps) >= seeded.SHARE_MIN
    assert 1.5 < gaps.mean() < 3.5  # the law: 8 / sqrt(2 ln 512) = 2.3


@pytest.mark.nightly
def test_small_is_decided_and_cut_without_a_trace(tmp_path: Path) -> None:
    """`small` of seed 1 has 99.9 % of 4,096 gaps above 1e-3, and three workers that load it give one worker's bits."""
    spec = seeded.RECIPES["small"].spec
    weights = ex.make_checkpoint(spec, 1, seeded.HEAD_GAIN)
    ex.save_checkpoint(tmp_path / "small", spec, weights, files=3)
    short, stored = ex.open_checkpoint(tmp_path / "small", context=64)
    tokens = list(range(40))
    found = []
    for workers in (1, 3):
        cuts = ex.cut_evenly(short, workers)
        line = ex.Pipeline([ex.make_shard("torch", short, stored, a, b, device="cpu") for a, b in cuts])
        found.append(line.logits("s", tokens, 0).tobytes())

    assert found[0] == found[1]
    assert seeded.decided(seeded.top_two_gaps("torch", spec, weights, 4096)) >= seeded.SHARE_MIN


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["big", "{}/a"], "invalid choice: 'big'"),
        (["tiny", "{}"], "is no empty folder"),
        (["tiny", "{}/a", "--dtype", "I8"], "invalid choice: 'I8'"),
        (["tiny", "{}/a", "--seed", "-1"], "--seed -1: allowed: 0 to 9223372036854775807"),
        (["tiny", "{}/a", "--positions", "0"], "--positions 0: allowed: 1 to 100000"),
        (["tiny", "{}/a", "--positions", "99999999999999"], "--positions 99999999999999: allowed: 1 to 100000"),
        (["tiny", "{}/used/a"], "used/a: cannot be written"),
        (["tiny", "{}/a", "--files", "0"], "--files 0: allowed: 1 to 39"),
        (["tiny", "{}/a", "--files", "99"], "--files 99: allowed: 1 to 39"),
    ],
)
def test_bad_words_are_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong word is refused with exit code 2 and one line, and nothing is written."""
    (tmp_path / "used").touch()
    assert cli.main(["checkpoint", *(word.format(tmp_path) for word in words), "-q"]) == 2
    told = capsys.readouterr().err.splitlines()

    assert len(told) == 1
    assert message in told[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"used", "home"}


def test_a_framework_that_is_broken_is_as_good_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says of each why it cannot be imported, and nothing is made."""
    for name in ("torch", "jax"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text(f"raise OSError('lib{name}.so is not there')")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "broken")

    assert cli.main(["checkpoint", "tiny", str(tmp_path / "a"), "-q"]) == 2
    error = capsys.readouterr().err
    assert "torch: libtorch.so is not there; jax: libjax.so is not there" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "a").exists()
