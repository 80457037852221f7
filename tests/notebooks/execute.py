"""Runs the notebooks from top to bottom and writes their outputs into them.

It knows kernels, and what a committed notebook must not hold. Run it after a change to a notebook,
or to what one shows::

    python tests/notebooks/execute.py               # all of notebooks/
    python tests/notebooks/execute.py 01 03         # those whose names begin so

No key reaches a notebook: what SHORTAPI_KEY holds is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CELL_SECONDS_MAX = 60
AT_ONCE = 2
_LEFT_OUT = ("SHORTAPI_", "LANGSMITH_", "LANGCHAIN_", "IPYTHON", "JUPYTER", "PYTHONWARNINGS")
"""Settings of whoever runs this: with another's, the outputs would be others."""
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read(path: Path) -> Any:
    """A notebook as nbformat has it."""
    return import_module("nbformat").read(path, as_version=4)


def paths_of(beginnings: Sequence[str] = ()) -> list[Path]:
    """The notebooks whose names begin so; all of them where nothing is given."""
    chosen = sorted(NOTEBOOKS.glob("*.ipynb"))
    return [path for path in chosen if not beginnings or path.name.startswith(tuple(beginnings))]


def executed(path: Path, **environment: str) -> Any:
    """A notebook as its kernel leaves it: this interpreter's, in an environment without a key.

    Raises:
        CellExecutionError: A cell raised an error.
        CellTimeoutError: A cell took longer than ``CELL_SECONDS_MAX``.
    """
    # Only who runs notebooks has these, and the tests are collected without them too.
    kernels: Any = import_module("jupyter_client")
    kernelspecs: Any = import_module("jupyter_client.kernelspec")
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:
        client = import_module("nbclient").NotebookClient(
            notebook,
            timeout=CELL_SECONDS_MAX,
            record_timing=False,
            store_widget_state=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        # Set afterwards, for the client ends only kernels that it was not given.
        client.km = kernels.AsyncKernelManager(
            kernel_name="python3",
            # None but the one that comes with this interpreter's ipykernel.
            kernel_spec_manager=kernelspecs.KernelSpecManager(kernel_dirs=[]),
            connection_file=f"{folder}/kernel.json",
        )
        # Its blocking half leaves event loops behind.
        asyncio.run(client.async_execute(env=_environment(folder) | environment))
    return notebook


def normalised(notebook: Any) -> Any:
    """Without what differs from one machine to another, or shows nothing."""
    notebook.metadata = {"kernelspec": _KERNELSPEC, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _tidied(cell.outputs)
    return notebook


def _tidied(outputs: Sequence[Any]) -> list[Any]:
    """One stream where several follow each other, and no display that was emptied."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "display_data" and not output.data:
            continue
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def _environment(folder: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    return kept | {"IPYTHONDIR": f"{folder}/ipython", "TMPDIR": folder, "NO_PROXY": "127.0.0.1"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Execute the notebooks in place."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("beginnings", nargs="*", help="how names begin, such as 01; default: all")
    paths = paths_of(parser.parse_args(arguments).beginnings)
    if not paths:
        parser.error(f"no notebook in {NOTEBOOKS} begins so")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for path, notebook in zip(paths, pool.map(executed, paths), strict=True):
            import_module("nbformat").write(normalised(notebook), path)
            sys.stdout.write(f"{path.name}: {path.stat().st_size / 1000:,.0f} kB\n")


if __name__ == "__main__":
    main()
