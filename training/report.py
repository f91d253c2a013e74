"""An evaluation as Markdown: what was measured, beside what it must reach. Knows neither tasks nor servers."""

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 4
"""Failures quoted for each measurement."""


@dataclass(frozen=True)
class Row:
    """One measurement. `passed` is None where nothing has to be reached."""

    what: str
    measured: str
    bar: str = ""
    passed: bool | None = None
    failures: tuple[str, ...] = ()


def share(what: str, failures: Sequence[str | None], bar: float | None) -> Row:
    """How many of the cases have no failure; of none at all, none passes. `bar` is a share."""
    wrong = tuple(failure for failure in failures if failure is not None)
    correct = len(failures) - len(wrong)
    measured = f"{correct:,} of {len(failures):,} ({percent(correct / max(1, len(failures)))})"
    if bar is None:
        return Row(what, measured, failures=wrong)
    return Row(what, measured, percent(bar), bool(failures) and correct >= bar * len(failures), wrong)


def reached(rows: Sequence[Row]) -> bool:
    """Whether no bar was missed."""
    return all(row.passed is not False for row in rows)


def markdown(model: str, rows: Sequence[Row]) -> str:
    """The table and, where there were failures, some of each."""
    lines = [f"# Evaluation of {model}", "", *table(rows)]
    missed = [row for row in rows if row.failures]
    if missed:
        lines += ["", "## Some of the failures"]
    for row in missed:
        lines += [
            "",
            f"{row.what[0].upper()}{row.what[1:]}:",
            "",
            *(f"- {_quoted(failure)}" for failure in row.failures[:SHOWN]),
        ]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of the Markdown table."""
    marks = {True: "pass", False: "**miss**", None: ""}
    head = ["| on held-out tasks | measured | bar | |", "|---|---|---|---|"]
    return head + [f"| {row.what} | {row.measured} | {row.bar} | {marks[row.passed]} |" for row in rows]


def percent(part: float) -> str:
    """Never rounded up to what was not reached."""
    return f"{int(part * 1000 + 1e-9) / 10:g} %"


def _quoted(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"
