"""Who may import whom: `python -m tests.imports` lists every import that the table forbids and fails if there is one.

Imports are read from the source, those inside functions and under TYPE_CHECKING included. A rule marked `indirectly` also
follows imports of our own modules: importing a/b/c.py runs a/__init__.py and a/b/__init__.py as well.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES_OF_TORCH = ("torch", "transformers", "accelerate", "triton", "safetensors.torch", "xgrammar", "torchvision")


@dataclass(frozen=True)
class Rule:
    """Modules under `package`, `but` these, import nothing under `forbidden`."""

    package: str
    forbidden: tuple[str, ...]
    but: tuple[str, ...] = ()
    indirectly: bool = True


RULES = (
    Rule("router", (*LIBRARIES_OF_TORCH, "ray", "workers", "cluster")),
    Rule("workers", ("router", "cluster")),
    Rule("workers", ("ray",), but=("workers.actor",), indirectly=False),
    Rule("workers.engine", (*LIBRARIES_OF_TORCH, "grpc", "ray", "workers.grammar", "llguidance", "openai_harmony")),
    Rule("workers.grammar", (*LIBRARIES_OF_TORCH, "llguidance.torch", "llguidance.hf", "grpc", "ray")),
    Rule("workers.simulated", (*LIBRARIES_OF_TORCH, "ray"), indirectly=False),
    Rule("workers.model.config", (*LIBRARIES_OF_TORCH, "grpc", "ray")),
    Rule("workers.model.layout", (*LIBRARIES_OF_TORCH, "grpc", "ray")),
    Rule("workers.runner.spec", (*LIBRARIES_OF_TORCH, "grpc", "ray")),
    Rule("ossia", (*LIBRARIES_OF_TORCH, "ray", "router", "workers", "cluster")),
    *(Rule(package, ("tests", "benchmarks", "training")) for package in ("router", "workers", "cluster", "ossia")),
    Rule("training", ("benchmarks",)),
    *(
        Rule(package, ("proto",), indirectly=False)
        for package in ("router", "workers", "cluster", "ossia", "tests", "benchmarks", "training")
    ),
)
SOURCES = {
    "router": "router",
    "workers": "workers",
    "cluster": "cluster",
    "benchmarks": "benchmarks",
    "ossia": "proto/ossia",
    "training": "training",
    "tests": "tests",
}


@dataclass(frozen=True)
class Import:
    """`module` imports `target`, maybe by way of `path`, modules of ours."""

    module: str
    target: str
    line: int
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        way = "".join(f" -> {step}" for step in self.path)
        return f"{self.module}:{self.line}{way} imports {self.target}"


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def modules(root: Path) -> dict[str, Path]:
    """Every module of ours by its dotted name; a package's is its __init__.py."""
    found = {}
    for package, folder in SOURCES.items():
        for path in (root / folder).rglob("*.py"):
            parts = (package, *path.relative_to(root / folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names that the module's source imports, with their lines; of `from a import b` both a and a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), path)):
        match node:
            case ast.Import(names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(source, names, level):
                base = ".".join(package.split(".")[: len(package.split(".")) - level + 1]) if level else ""
                full = ".".join(part for part in (base, source) if part)
                yield full, node.lineno
                yield from ((f"{full}.{alias.name}", node.lineno) for alias in names)
            case ast.Call(ast.Attribute(ast.Name("importlib"), "import_module"), [ast.Constant(str(name)), *_]):
                yield name, node.lineno


Graph = Mapping[str, Mapping[str, int]]


def graph(root: Path) -> Graph:
    """Module of ours -> what it imports -> the line; the packages above a module count as imported by it at line 1."""
    found = {}
    for module, path in modules(root).items():
        targets: dict[str, int] = {}
        for target, line in imports(module, path):
            targets.setdefault(target, line)
        parts = module.split(".")
        for length in range(1, len(parts)):
            targets.setdefault(".".join(parts[:length]), 1)
        found[module] = targets
    return found


def violations(root: Path, rules: tuple[Rule, ...] = RULES) -> list[Import]:
    """What breaks a rule, in the order of rules and modules."""
    known = graph(root)
    return [
        found
        for rule in rules
        for module in sorted(known)
        if under(module, rule.package) and not any(under(module, exempt) for exempt in rule.but)
        for found in _forbidden(module, rule, known)
    ]


def _forbidden(module: str, rule: Rule, known: Graph) -> Iterator[Import]:
    """What `module` imports against the rule, each module of ours walked once, breadth first: the shortest way is shown."""
    seen = {module}
    ways: list[tuple[str, tuple[str, ...], int]] = [(module, (), 0)]
    for current, path, first in ways:
        for target, line in known[current].items():
            if any(under(target, name) for name in rule.forbidden):
                yield Import(module, target, first or line, path)
            elif rule.indirectly and target in known and target not in seen:
                seen.add(target)
                ways.append((target, (*path, target), first or line))


def main() -> int:
    found = violations(ROOT)
    for each in found:
        print(each, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
