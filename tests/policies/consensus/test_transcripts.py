"""The transcript runner itself: what it plays, what it refuses, and that rewriting is never silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policies.consensus.transcripts import FOLDER, REWRITE, TranscriptError, play, read, text

STORY = "# A story.\n\n"


def double(word: str, times: str = "2") -> str:
    """Say a word some times."""
    return "\n".join([word] * int(times))


def played(path: Path, content: str) -> None:
    """Play a transcript that knows one directive."""
    path.write_text(content)
    play(path, {"double": double})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "some.txt"


def test_what_comes_out_as_it_stands_passes(path: Path) -> None:
    """Words and options reach the directive, and its lines are compared."""
    played(path, STORY + "double hey\n----\nhey\nhey\n\n# Once more.\ndouble ho times=1\n----\nho\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            STORY + "double hey\n----\nhey\n",
            r"^some\.txt:3: double hey\n  expected:\n    hey\n  got:\n    hey\n    hey",
        ),
        (STORY + "\ntreble hey\n----\n", r"^some\.txt:4: no directive 'treble'; there are double"),
        (STORY + "double hey tempo=2\n----\n", r"^some\.txt:3: double: got an unexpected .*'tempo'"),
        (STORY + "double\n----\n", r"^some\.txt:3: double: missing a required argument"),
        (STORY + "double hey\nhey\n", r"^some\.txt:3: 'double hey' must be followed by"),
        (STORY + "double hey\n----\nhey\n----\n", r"^some\.txt:3: 'double hey' must be followed by one"),
        (STORY + "double hey times=1\n----\nhey\n\n# Left over.\n", r"^some\.txt:8: a comment without a block"),
        ("double hey\n----\nhey\nhey\n", r"^some\.txt:1: a transcript begins with a comment"),
        ("", r"^some\.txt:1: a transcript begins with a comment"),
    ],
)
def test_what_is_stale_or_malformed_is_refused_with_its_line(path: Path, content: str, says: str) -> None:
    """A wrong result, an unknown word or option, and a broken block are told apart by their first line."""
    with pytest.raises(TranscriptError, match=says):
        played(path, content)


def test_what_breaks_within_a_directive_says_where(path: Path) -> None:
    """A property that does not hold, or a name that nobody has, comes with file, line and directive."""
    with pytest.raises(ValueError, match="invalid literal") as broken:
        played(path, STORY + "double hey times=often\n----\n")

    assert broken.value.__notes__ == ["some.txt:3: double hey times=often"]


def test_rewriting_writes_what_came_out_and_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody takes it for a pass; played again it stands, comments and all."""
    monkeypatch.setenv(REWRITE, "1")
    with pytest.raises(TranscriptError, match="rewritten; read the difference"):
        played(path, STORY + "# First.\ndouble hey\n----\n\ndouble ho times=1\n----\nho\n")
    monkeypatch.delenv(REWRITE)

    assert path.read_text() == STORY + "# First.\ndouble hey\n----\nhey\nhey\n\ndouble ho times=1\n----\nho\n"
    play(path, {"double": double})


@pytest.mark.parametrize("kept", sorted(FOLDER.rglob("*.txt")), ids=lambda kept: kept.stem)
def test_every_transcript_is_in_the_form_in_which_it_would_be_rewritten(kept: Path) -> None:
    """A rewrite then shows changed results only; and each belongs to a folder that a test plays."""
    assert kept.parent.name in ("quorum", "changes", "raft")
    assert text(read(kept)) == kept.read_text()
