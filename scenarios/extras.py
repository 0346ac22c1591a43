"""Libraries that are not everywhere: what brings each, and what to say of one that is absent or does not load."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

EXTRAS = {
    "torch": "torch", "jax": "jax", "jaxlib": "jax", "mlflow": "track", "cryptography": "local",
    "starlette": "gateway", "uvicorn": "gateway", "tokenizers": "tokenizer", "jinja2": "tokenizer",
}  # fmt: skip
"""The extra of pyproject.toml that brings each; other libraries come with the project itself."""
OURS = {"models", "policies", "scenarios", "sim", "real_backends", "experiments", "__main__", ""}


def why_absent(name: str) -> str:
    """Say why a library cannot be imported, nothing if it can: one that is there and broken is as good as missing."""
    try:
        importlib.import_module(name)
    except Exception as error:  # torch raises OSError where a shared library is missing, jax RuntimeError at a version
        return f"{name}: {str(error).splitlines()[0]}" if str(error) else f"{name}: {type(error).__name__}"
    return ""


def why_lacking(names: Iterable[str]) -> str:
    """Say of some libraries which cannot be imported, why, and what brings them; nothing if all can."""
    absent = {name: why for name in names if (why := why_absent(name))}
    extras = ",".join(sorted({EXTRAS[name] for name in absent}))
    return f"{'; '.join(absent.values())}: pip install 'villagetwin[{extras}]'" if absent else ""


def not_loaded(error: ImportError) -> str:
    """Say in one line which library an import lacks and what brings it; nothing if it is a module of ours."""
    names = [error.name or ""]
    step = error.__traceback__
    while step is not None:  # one that is there and does not load is named by the frames of its own
        names.append(str(step.tb_frame.f_globals.get("__name__", "")))
        step = step.tb_next
    tops = [name.partition(".")[0] for name in names]
    foreign = [top for top in tops if top not in OURS and top not in sys.stdlib_module_names]
    name = next((top for top in foreign if top in EXTRAS), foreign[-1] if foreign else "")
    what = f"'villagetwin[{EXTRAS[name]}]'" if name in EXTRAS else "villagetwin"
    return f"{name} cannot be loaded ({error}): pip install {what}" if name else ""
