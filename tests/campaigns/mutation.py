"""Mutants: one module of the program with one thing changed, run against the tests that are to notice it.

`python -m tests.campaigns.mutation MODULE TESTS...` prints one JSON object for each mutant.

Rules kept here:

* A mutant is run in a process forked from one that has loaded all foreign packages, but none of ours: a second each.
* The program's files are never touched: the changed syntax tree is compiled in memory, for that process alone.
* What is not changed, because no test should notice: docstrings, annotations, decorators, and sentences for people
  (texts with a space in them, and f-strings).
* A process that does not end in time counts as noticed; one in which no test ran is an error of ours, never a success.

Measured before writing this: cosmic-ray 8.7 makes 68 mutants of `envelope.py`, 34 of them on the two operators of one
constant, none of a removed statement, a returned value, a text or a removed condition, at a new pytest process each.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST_S: Final = 120.0

_SWAPS: Final[dict[type[ast.AST], tuple[type[ast.AST], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.Pow: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the `number`-th that can be made in its module."""

    number: int
    line: int
    source: str
    change: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests said to a mutant: `noticed`, `too slow` (noticed, too), or `survived`."""

    mutant: Mutant
    outcome: str

    @property
    def survived(self) -> bool:
        """Whether no test noticed it."""
        return self.outcome == "survived"


# --- changes ------------------------------------------------------------------------------------------


def mutants(source: str) -> list[Mutant]:
    """Return everything that can be changed in a module."""
    lines = source.splitlines()
    found = enumerate(_all_changes(ast.parse(source)))
    return [Mutant(n, _line(node), lines[_line(node) - 1].strip(), text) for n, (node, _, text) in found]


def changed(source: str, number: int) -> ast.Module:
    """Return the module's tree with one change made."""
    tree = ast.parse(source)
    node, new, _ = list(_all_changes(tree))[number]
    result: ast.Module = _Replace(node, new).visit(tree)
    return ast.fix_missing_locations(result)


class _Replace(ast.NodeTransformer):
    """Puts one node in place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> Any:
        return self._new if node is self._old else self.generic_visit(node)


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 1))


def _all_changes(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    for node in _code(tree):
        for new, text in _changes(node):
            located = ast.copy_location(new, node) if hasattr(node, "lineno") else new
            yield node, located, text


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that no test should notice."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr) and not _is_text(child):
                yield from _code(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    yield from _other_operations(node) if isinstance(node, ast.expr | ast.AugAssign) else _other_ways(node)


def _other_operations(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.Compare():
            for place, op in enumerate(node.ops):
                for other in _SWAPS.get(type(op), ()):
                    ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                    yield _with(node, ops=ops), f"{type(op).__name__} to {other.__name__}"
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign():
            for other in _SWAPS.get(type(node.op), ()):
                yield _with(node, op=other()), f"{type(node.op).__name__} to {other.__name__}"
            yield from _shorter(node)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand, "without `not`"
        case ast.IfExp():
            yield _negated(node, node.test)
        case ast.Constant():
            yield from _constants(node.value)


def _other_ways(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.If() | ast.While():
            yield _negated(node, node.test)
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[]), "without its condition"
        case ast.Return(value=ast.expr()) if not _is_none(node.value):
            yield ast.Return(ast.Constant(None)), "returns None"
        case ast.Raise():
            yield ast.Pass(), "does not raise"
        case ast.Expr(value=ast.Call()):
            yield ast.Pass(), "call left out"
        case ast.Break() | ast.Continue():
            yield (ast.Continue() if isinstance(node, ast.Break) else ast.Break()), "break and continue swapped"


def _negated(node: ast.AST, test: ast.expr) -> tuple[ast.AST, str]:
    return _with(node, test=ast.UnaryOp(ast.Not(), test)), "condition negated"


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _shorter(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield `a and b` without each of its parts."""
    if isinstance(node, ast.BoolOp):
        for place in range(len(node.values)):
            rest = [*node.values[:place], *node.values[place + 1 :]]
            yield (rest[0] if len(rest) == 1 else _with(node, values=rest)), f"without part {place + 1}"


def _constants(value: object) -> Iterator[tuple[ast.AST, str]]:
    match value:
        case bool():
            yield ast.Constant(not value), f"{value} to {not value}"
        case int() | float():
            yield ast.Constant(value + 1), f"{value} to {value + 1}"
        case bytes():
            yield ast.Constant(value + b"x"), f"{value!r} longer"
        case str() if value and " " not in value:
            yield ast.Constant(value + "x"), f"{value!r} longer"


# --- runs ---------------------------------------------------------------------------------------------


class _Loader(importlib.abc.InspectLoader):
    """Gives one module with one change, in place of its file."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self._path = path
        self._code = code

    def get_source(self, fullname: str) -> str:
        del fullname
        return self._path.read_text()

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return self._code

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(self._code, module.__dict__)  # noqa: S102 - the module under test, changed


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the changed module before its file."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self._name = name
        self._loader = _Loader(path, code)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        del path, target
        return importlib.machinery.ModuleSpec(fullname, self._loader) if fullname == self._name else None


def _run_changed(module: str, path: Path, number: int | None, tests: Sequence[str]) -> int:
    """Run the tests in this process, which ends after it."""
    import hypothesis
    import pytest

    if number is not None:
        code = compile(changed(path.read_text(), number), str(path), "exec", dont_inherit=True)
        sys.meta_path.insert(0, _Finder(module, path, code))
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a failure need not be made small
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, deadline=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--assert=plain", "--timeout=0", *tests]))


def _verdict_of(module: str, path: Path, number: int | None, tests: Sequence[str]) -> str:
    """Fork, run, wait."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            quiet = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(quiet, fd)
            code = _run_changed(module, path, number, tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            outcomes = dict.fromkeys((1, 2, 3, 4), "noticed") | {0: "survived"}  # 4: not even conftest can be imported
            if code in outcomes or code < 0:
                return outcomes.get(code, "noticed")
            raise RuntimeError(f"pytest ended with {code}: the tests did not run")
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too slow"


def _load_foreign_packages() -> None:
    """Import what all tests import, and forget our own modules again: each fork imports those anew."""
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401

    import clinic.home
    import clinic.services  # noqa: F401

    for name in [name for name in sys.modules if name.split(".")[0] in ("clinic", "tests")]:
        if name not in ("tests", "tests.campaigns"):
            del sys.modules[name]


def main(module: str, *arguments: str) -> None:
    """Run the mutants of one module that `--only N,N,...` names, or all."""
    only = None
    if arguments[0] == "--only":
        only, arguments = {int(number) for number in arguments[1].split(",")}, arguments[2:]
    path = ROOT / (module.replace(".", "/") + ".py")
    _load_foreign_packages()
    if _verdict_of(module, path, None, arguments) != "survived":
        raise RuntimeError("the tests fail without any change")
    for mutant in mutants(path.read_text()):
        if only is None or mutant.number in only:
            verdict = Verdict(mutant, _verdict_of(module, path, mutant.number, arguments))
            sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
            sys.stdout.flush()


def run(module: str, tests: Sequence[str], *, only: Sequence[int] | None = None) -> list[Verdict]:
    """Run mutants in a process of their own; return what became of each."""
    chosen = [] if only is None else ["--only", ",".join(map(str, only))]
    command = [sys.executable, "-m", "tests.campaigns.mutation", module, *chosen, *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Verdict(Mutant(**one["mutant"]), one["outcome"]) for one in found]


if __name__ == "__main__":
    main(*sys.argv[1:])
