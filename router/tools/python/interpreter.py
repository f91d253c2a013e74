"""What runs in the locked process: cells of Python, one after the other, as in a notebook. Standard library only.

Reads one JSON object a line from stdin, `{"marker", "code"}`; what the code prints goes to stdout and stderr, then the marker.
"""

import ast
import json
import linecache
import os
import sys
import traceback
import types
from typing import Any, TextIO

from router.tools.python.lockdown import Limits, Refused, lock


class Notebook:
    """Cells share their variables."""

    def __init__(self) -> None:
        self._module = types.ModuleType("__main__")
        self._cells = 0

    def run(self, code: str) -> None:
        """Executes a cell: prints what its last expression is worth, if anything, and the traceback of what it raises."""
        self._cells += 1
        name = f"<cell {self._cells}>"
        linecache.cache[name] = (len(code), None, f"{code}\n".splitlines(keepends=True), name)
        sys.modules["__main__"] = self._module
        try:
            self._execute(ast.parse(code, name), name)
        except BaseException as error:  # SystemExit too: the process outlives the cell
            self._print(error)

    def _execute(self, tree: ast.Module, name: str) -> None:
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        space: dict[str, Any] = self._module.__dict__
        exec(compile(tree, name, "exec"), space)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), space)
            if value is not None:
                print(repr(value))

    def _print(self, error: BaseException) -> None:
        sys.stdout.flush()
        shown = error.__traceback__
        while shown and not shown.tb_frame.f_code.co_filename.startswith("<cell "):
            shown = shown.tb_next
        traceback.print_exception(type(error), error, shown)


def serve(cells: TextIO, output: int) -> None:
    """Runs cells until there are no more. `output` is the descriptor that markers go to."""
    notebook = Notebook()
    for line in cells:
        cell = json.loads(line)
        notebook.run(cell["code"])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.write(output, cell["marker"].encode())


def main() -> None:
    """`python -I -m router.tools.python.interpreter FOLDER MEMORY CPU_S FOLDER_BYTES OPEN_FILES`."""
    folder, *numbers = sys.argv[1:]
    cells = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    try:
        lock(folder, Limits(*map(int, numbers)))
    except Refused as error:
        sys.exit(str(error))
    sys.argv = [""]
    sys.path.insert(0, "")
    serve(cells, 1)


if __name__ == "__main__":
    main()
