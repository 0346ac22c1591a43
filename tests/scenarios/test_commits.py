"""The table of commits."""

from __future__ import annotations

from scenarios.commits import Commits


def test_an_entry_has_its_first_and_last_member_however_often_they_tell() -> None:
    """A member that starts again and tells its log anew moves neither the time nor the count."""
    commits = Commits()
    commits.take(1.0, "a", 1, 7)
    commits.take(2.0, "b", 2, 8)
    commits.take(3.0, "b", 1, 7)
    commits.take(9.0, "a", 1, 7)

    assert commits.rows() == [(1, 7, 1.0, 3.0, 2), (2, 8, 2.0, 2.0, 1)]
