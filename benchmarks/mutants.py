"""Changes what decides, place by place: ``python -m benchmarks.mutants``.

``--target`` chooses what: ``raft``, the deciding part of Raft; ``campaign``, what stops a command;
``core``, the lease. Each change is made in a copy of the package, in which the module's tests are
run that need no server (for Raft some seeds are simulated before, in place of the simulation's own
tests). What none of them notices is a survivor: either a check is missing, or the change makes no
difference to anybody. Those of which that has been argued stand in ``benchmarks/equivalent.txt``,
with the reason, and are not tried.

``--sample N`` tries N of them, drawn by ``--draw``; ``--only NAME`` those of one module. The exit
code is 1 if there are survivors. What this does not show: that a mistake which is larger than one
expression is found; the planted ones of ``tests/raft/planted.py`` are.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True, slots=True)
class Target:
    """Modules of one folder, each with what is run by pytest to find a change in it."""

    folder: Path
    tests: Mapping[str, tuple[str, ...]]
    #: Whether Raft is simulated first.
    simulated: bool = False


_RAFT = ("tests/raft", "--deselect", "tests/raft/test_raft_simulation.py")
_TERM = ("tests/test_term.py", "tests/test_term_ends.py")
_TREE = ("tests/test_tree.py", "tests/test_guardian_tree.py", "tests/test_guardian.py")
_SWITCH = ("tests/test_guardian_switch.py", "tests/test_guardian.py")
TARGETS = {
    # What decides. Its other modules only say what there is, or are the wire's.
    "raft": Target(
        Path("electctl/raft/pure"),
        {
            "core": _RAFT,
            "log": _RAFT,
            "progress": _RAFT,
            "leases": _RAFT,
            "deadlines": _RAFT,
            "endings": _RAFT,
            "replica": _RAFT,
            "driver": _RAFT,
            "twins": _RAFT,
            "watchers": _RAFT,
            "snapshots": _RAFT,
            "courier": _RAFT,
            "session": _RAFT,
            "client": _RAFT,
        },
        simulated=True,
    ),
    "campaign": Target(
        Path("electctl/campaign"),
        {
            "stopping": ("tests/test_stopping.py", *_TREE),
            "term": _TERM,
            "stages": _TERM,
            "job": _TERM,
            "ending": _TERM,
            "warden": ("tests/test_warden.py", *_TREE, "tests/test_guardian_switch.py"),
            "tree": _TREE,
            "orphans": _SWITCH,
            "releasing": ("tests/test_guardian_releaser.py", "tests/test_guardian_deaths.py"),
            "lookout": ("tests/test_guardian_releaser.py", "tests/test_guardian_held.py"),
        },
    ),
    "core": Target(
        Path("electctl/core"), {"lease": ("tests/test_lease.py", "tests/test_lease_timing.py")}
    ),
}
COPIED = ("electctl", "backends", "benchmarks", "tests", "pyproject.toml")
#: Seconds: a change that makes it run for ever is found by that.
LIMIT = 300.0
#: Run in the copy; the exit code says whether a seed broke anything.
SIMULATE = """
import sys
from electctl.simulate.run import run_seed
for seed in range(int(sys.argv[1])):
    outcome = run_seed(seed)
    if outcome.invariant is not None:
        print(outcome.invariant)
        raise SystemExit(3)
"""

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_RECKONED: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}


@dataclass(frozen=True, slots=True)
class Mutant:
    """``before`` at a place of a module becomes ``after``."""

    module: str
    line: int
    column: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """How it is known where lines may move."""
        return f"{self.module} | {self.before} | {self.after}"

    def applied(self, source: str) -> str:
        """The whole module with the change in it."""
        lines = source.splitlines(keepends=True)
        at = lines[self.line - 1].encode()
        end = self.column + len(self.before.encode())
        assert at[self.column : end].decode() == self.before
        changed = at[: self.column] + self.after.encode() + at[end:]
        lines[self.line - 1] = changed.decode()
        return "".join(lines)


def mutants_of(folder: Path, module: str) -> Iterator[Mutant]:
    """Every change of one expression or statement, of those that stand in one line."""
    source = (ROOT / folder / f"{module}.py").read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    # How a class is made decides nothing.
    making = {
        part for node in ast.walk(tree) for made_by in _making(node) for part in ast.walk(made_by)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr | ast.stmt) or node.lineno != node.end_lineno:
            continue
        if node in making:
            continue
        line = lines[node.lineno - 1].encode()
        before = line[node.col_offset : node.end_col_offset].decode()
        if isinstance(node, ast.Tuple) and not before.startswith("("):
            continue  # what a type is made of
        for after in _changes(node):
            yield Mutant(module, node.lineno, node.col_offset, before, after)


def _making(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return node.decorator_list
        case ast.Assign(targets=[ast.Name(id="__slots__")], value=value):
            return [value]
    return []


def _changes(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield ast.unparse(ast.Compare(left, [_COMPARED[type(op)]()], [right]))
        case ast.BoolOp(op=op, values=values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _RECKONED:
            yield f"({ast.unparse(ast.BinOp(left, _RECKONED[type(op)](), right))})"
        case ast.Tuple(elts=parts) if any(map(_is_word, parts)):  # a row of a table
            for left_out in range(len(parts)):
                rest = parts[:left_out] + parts[left_out + 1 :]
                yield ast.unparse(ast.Tuple(rest, ast.Load()))
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value)):
            yield str(value + 1)
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=args):
            other_name = "max" if name == "min" else "min"
            yield f"{other_name}({', '.join(map(ast.unparse, args))})"
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute()]) | ast.AugAssign():
            yield "pass"


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def known() -> dict[str, str]:
    """The changes that make no difference, each with the reason."""
    found = {}
    for line in (HERE / "equivalent.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.rpartition(" | ")
            found[name] = reason
    return found


def try_it(target: Target, mutant: Mutant, copy: Path, seeds: int) -> str:
    """How it was found; "" if it was not."""
    path = copy / target.folder / f"{mutant.module}.py"
    source = (ROOT / target.folder / f"{mutant.module}.py").read_text()
    path.write_text(mutant.applied(source))
    try:
        if target.simulated:
            simulated = _python(copy, "-c", SIMULATE, str(seeds))
            if simulated.returncode == 3:
                return f"simulation: {simulated.stdout.strip()}"
            if simulated.returncode:
                return "simulation: crash"
        tests = target.tests[mutant.module]
        tested = _python(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)
        return "tests" if tested.returncode else ""
    except subprocess.TimeoutExpired:
        return "it never ends"
    finally:
        path.write_text(source)


def _python(copy: Path, *args: str) -> subprocess.CompletedProcess[str]:
    # No bytecode: the change may leave time and size of the file as they were.
    paths = os.pathsep.join((str(copy), str(copy / "backends")))
    env = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *args],
        cwd=copy,
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40, metavar="N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--sample", type=int, metavar="N", help="default: all")
    parser.add_argument("--draw", type=int, default=0, metavar="SEED")
    parser.add_argument("--target", choices=TARGETS, default="raft")
    parser.add_argument("--only", metavar="MODULE", action="append")
    parser.add_argument("--list", action="store_true", help="only say what would be tried")
    options = parser.parse_args()
    equivalent = known()
    target = TARGETS[options.target]
    modules = options.only or target.tests
    if unknown := set(modules) - set(target.tests):
        parser.error(f"no module of {options.target}: {', '.join(sorted(unknown))}")
    every = [m for module in modules for m in mutants_of(target.folder, module)]
    mutants = [mutant for mutant in every if mutant.name not in equivalent]
    if options.sample is not None:
        mutants = random.Random(options.draw).sample(mutants, min(options.sample, len(mutants)))
    print(f"{len(every)} changes, {len(every) - len(mutants)} of them not tried")
    if options.list:
        for mutant in mutants:
            print(f"{mutant.module}:{mutant.line}  {mutant.before}  ->  {mutant.after}")
        return 0
    return _try_all(target, mutants, options.seeds, options.jobs)


def _try_all(target: Target, mutants: list[Mutant], seeds: int, jobs: int) -> int:
    begun = time.monotonic()
    counts: Counter[str] = Counter()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: Queue[Path] = Queue()
        for number in range(jobs):
            copies.put(_copy(Path(folder) / str(number)))

        def found(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                return try_it(target, mutant, copy, seeds)
            finally:
                copies.put(copy)

        for mutant, how in zip(mutants, pool.map(found, mutants), strict=True):
            counts[how.partition(":")[0] or "survives"] += 1
            if not how:
                where = f"{mutant.module}:{mutant.line}"
                print(f"survives  {where}  {mutant.before}  ->  {mutant.after}", flush=True)
    spent = time.monotonic() - begun
    told = ", ".join(f"{how} {count}" for how, count in counts.most_common())
    print(f"{len(mutants)} changes in {spent:.0f} s: {told}")
    return 1 if counts["survives"] else 0


def _copy(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


if __name__ == "__main__":
    sys.exit(main())
