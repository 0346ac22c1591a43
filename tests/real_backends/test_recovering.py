"""A real village whose stages have standbys: a killed stage's place is taken, and its tokens are not run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.results import load
from real_backends.local import run_local
from scenarios.record import TABLES, Record
from scenarios.schema import PRIORITIES, build, to_plain

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

TOKENS = 200
SEED = 21  # its request arrives at 6.4 s: whoever stands by must have its layers before, however slow the machine is
PATIENCE_S = 120.0  # for the answer, which ends the run: a machine with ten busy processes took more than 46 s
HEAD, STAGE = "desk-0", "desk-2"  # of the pipeline that five equal desks are planned into; desk-0 leads


def killed(rule: dict[str, Any], smaller: list[dict[str, str]], folder: Path) -> Record:
    """Run one long request on five slow desks, and kill a stage with SIGKILL in the middle of its answer."""
    plain = to_plain(load("four_desks", seed=SEED, profile="", world="local", duration_s=16.0, reading_s=0.5))
    plain["faults"] = [{"kind": "crash", "at_s": 10.0, "node": STAGE, "down_s": 60.0}]
    plain["fleet"].update(desktops=5, committee=1, shaped={f"desk-{k}": {"pacing": 6.0} for k in range(5)})
    patient = dict.fromkeys(PRIORITIES, PATIENCE_S)
    plain["workload"].update(requests=1, new_tokens=TOKENS, retry_s=1.0, deadline_s=patient)
    plain["policy"]["coordination"].update(lease_s=1.5, plan_every_s=0.5)
    plain["policy"]["recovery"] = rule
    plain["smaller"], plain["policy"]["coordination"]["degrade"] = smaller, {"services": ["standard"]}
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("real_backends.local.GRACE_S", PATIENCE_S)
        record = run_local(build(plain), folder)
    (row,) = (dict(zip(TABLES["requests"], each, strict=True)) for each in record.tables["requests"])
    assert (row["status"], row["tokens"], row["correct"]) == ("answered", TOKENS, True)
    assert STAGE not in row["nodes"].split(",")
    assert all(record.manifest["checks"].values())
    return record


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The same request and death without a standby: all tokens there were go through the stages again."""
    return killed({"rule": "replay"}, [], tmp_path_factory.mktemp("replay") / "replayed")


@pytest.mark.slow
@pytest.mark.parametrize("smaller", [[], [{"model": "desk-mini"}]], ids=["one model", "two models"])
def test_a_killed_stage_s_standby_goes_on_with_the_same_tokens(
    tmp_path: Path, replayed: Record, smaller: list[dict[str, str]]
) -> None:
    """The text is the undisturbed one; of the tokens there were, a few go through the stages again, where replay takes
    them all. Nothing of the request is left when it is over."""
    prepared = killed({"rule": "prepared", "deaths_per_h": 3600.0, "bytes_ratio": 4.0}, smaller, tmp_path / "prepared")
    summary = prepared.summary
    assert summary["resumed_attempts"] == 1
    assert summary["resumed_again_tokens"] <= 10
    assert 30 < summary["resumed_known_tokens"] < summary["copied_tokens"]
    assert prepared.manifest["nodes"][HEAD]["recovery"]["resumed"] == 1
    assert {each["active"] for each in prepared.manifest["nodes"].values()} == {0}
    assert "resumed_attempts" not in replayed.summary
    # The very same tokens, named by their digest.
    output = list(TABLES["requests"]).index("output")
    assert prepared.tables["requests"][0][output] == replayed.tables["requests"][0][output]
