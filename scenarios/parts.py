"""A table that goes to disk as it grows: Parquet parts, each of some steps of a run, and one file at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

HELD_ROWS = 1 << 18
"""Rows from which on a part is written: some 20 MB of a fleet's histories."""
GROUP_ROWS = 1 << 20
"""Rows of a row group in the one file, as `pandas.DataFrame.to_parquet` has them."""


class Parts:
    """A table whose rows come step by step; what is not yet on disk is less than `HELD_ROWS` and a step's.

    Attributes:
        held: rows that are not on disk.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Keep parts in ``folder``; without one, in a folder that goes with this object."""
        self._folder = folder or Path(tempfile.mkdtemp(prefix="villagetwin-"))
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._open: list[Any] = []
        self._steps = [0, 0]  # of the open rows: the first, and the one after the last
        self.held = 0

    def go_on(self, done: int) -> bool:
        """Go on after ``done`` steps: remove what is of later ones or torn; tell whether all of them are there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open, self._steps, self.held = [], [done, done], 0
        reached = 0
        for path in sorted(self._folder.iterdir()):
            begin, end = _steps(path)
            if begin == reached < end <= done and _whole(path):
                reached = end
            else:
                path.unlink()
        return reached == done

    def add(self, rows: pd.DataFrame) -> None:
        """Add the rows of the next step."""
        import pyarrow as pa

        self._open.append(pa.Table.from_pandas(rows, preserve_index=False))
        self._steps[1] += 1
        self.held += len(rows)
        if self.held >= HELD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a part, which is there whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        begin, end = self._steps
        if not self._open:
            return
        half = self._folder / f"{begin:09d}-{end:09d}.{os.getpid()}.half"
        pq.write_table(pa.concat_tables(self._open), half)
        half.rename(self._folder / f"{begin:09d}-{end:09d}.parquet")
        self._open, self._steps, self.held = [], [end, end], 0

    def save(self, path: Path) -> None:
        """Write one file, the same byte for byte however the rows were cut into parts."""
        import pyarrow.parquet as pq

        self.flush()
        with pq.ParquetWriter(path, pq.read_schema(self._files()[0])) as writer:
            for group in self._groups():
                writer.write_table(group, GROUP_ROWS)

    def frame(self) -> pd.DataFrame:
        """Return the whole table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.flush()
        found: pd.DataFrame = pa.concat_tables([pq.read_table(path) for path in self._files()]).to_pandas()
        return found

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))

    def _groups(self) -> Iterator[Any]:
        """Yield the rows by row group, with no more of them in memory than one and a batch."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        waiting: list[Any] = []
        count = 0
        for path in self._files():
            with pq.ParquetFile(path) as part:
                for batch in part.iter_batches():
                    while count + batch.num_rows >= GROUP_ROWS:
                        rest = GROUP_ROWS - count
                        yield pa.Table.from_batches([*waiting, batch.slice(0, rest)]).combine_chunks()
                        waiting, count, batch = [], 0, batch.slice(rest)
                    waiting.append(batch)
                    count += batch.num_rows
        if count:
            yield pa.Table.from_batches(waiting).combine_chunks()


def _steps(path: Path) -> tuple[int, int]:
    """Return the first step of a part and the one after its last; nothing if it is no part."""
    begin, _, end = path.stem.partition("-")
    return (int(begin), int(end)) if path.suffix == ".parquet" else (0, 0)


def _whole(path: Path) -> bool:
    """Tell whether a part can be read: its end, which Parquet writes last, is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True
