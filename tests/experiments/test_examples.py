"""The examples in the docstrings of experiments/ run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

import experiments


@pytest.mark.parametrize("name", ["", ".compose", ".report", ".results", ".track"])
def test_examples_are_true(name: str) -> None:
    """Each example gives the result written under it."""
    result = doctest.testmod(importlib.import_module(experiments.__name__ + name))

    assert result.attempted > 0
    assert result.failed == 0
