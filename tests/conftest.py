"""What all tests share: where the measured data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of measured data, beside the checkout or where VILLAGETWIN_DATA says; skips where there is none."""
    path = Path(os.environ.get("VILLAGETWIN_DATA") or CHECKOUT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no data at {path}")
    return path
