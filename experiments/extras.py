"""Libraries that are not everywhere: what brings each, and what to say of one that is absent or does not load."""

from __future__ import annotations

import importlib
import sys

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
    except (ImportError, OSError) as error:  # OSError: a shared library that torch looks for by itself
        return f"{name}: {str(error).splitlines()[0]}" if str(error) else name
    return ""


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
