"""The bar of the fitted distributions, on units left out, and the files that they say they come from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from models.failures.lives import FILE as FAILURES
from models.failures.lives import FITS as LIVES
from models.links.access import FILE as LINKS
from models.links.access import FITS as RATES

FITS = {**RATES, **LIVES}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_as_good_as_the_best_family(name: str) -> None:
    """On units left out the law is no worse than the best standard family by more than 0.05; it has a source."""
    fit = FITS[name]

    assert fit.ks_units <= fit.ks_units_standard + 0.05
    assert fit.units >= 2
    assert all((fit.file, fit.column, fit.rows, fit.of, fit.unit))


@pytest.mark.parametrize("path", [LINKS, FAILURES], ids=["links", "failures"])
def test_fits_are_of_the_files_that_are_there(path: Path, data_folder: Path) -> None:
    """The digests kept beside the fits are those of the data at hand."""
    files = json.loads(path.read_text())["files"]

    assert files
    for name, digest in files.items():
        assert hashlib.sha256((data_folder / name).read_bytes()).hexdigest() == digest
