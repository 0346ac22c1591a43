"""Processes that keep compiled modules, also where Python is told to keep none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from experiments.bytecode import with_bytecode


def test_a_process_keeps_compiled_modules_in_a_folder_of_ours() -> None:
    """It is there, and `PYTHONDONTWRITEBYTECODE` does not reach the process."""
    code = "import sys; print(sys.dont_write_bytecode, sys.pycache_prefix)"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    environment = with_bytecode({**plain, "PYTHONDONTWRITEBYTECODE": "1"})
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    keeps_none, folder = said.stdout.split()
    assert keeps_none == "False"
    assert Path(folder).is_dir()
    assert with_bytecode(environment) == environment
