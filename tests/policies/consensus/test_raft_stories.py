"""Raft's transcripts: whole clusters, driven by hand, judged by what can be seen from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policies.consensus.raft_story import Story
from tests.policies.consensus.transcripts import FOLDER, play


@pytest.mark.parametrize("path", sorted((FOLDER / "raft").glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_comes_out_as_told(path: Path) -> None:
    """Logs, terms, roles and commit indices are those of the Raft paper and of etcd-io/raft's interactions."""
    play(path, Story().directives())
