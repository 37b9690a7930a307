"""``python -m benchmarks.outside``: rounds of every fault, and the smallest margins of each."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.outside.faults import ALONE, FAULTS, faults_of
from benchmarks.outside.rounds import COMMANDS, TOOLS, Round, one_round
from benchmarks.stores import TTL, cluster_of
from electctl.faults.fault import NotInjected


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scheme", default="redis")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ttl", type=float)
    parser.add_argument("--faults", nargs="+", choices=FAULTS)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--tool", choices=TOOLS, default="electctl")
    parser.add_argument("--at-once", type=int, default=3, help="rounds played at the same time")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="append each round to it, as a line of JSON; what it has is not played again",
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ttl = args.ttl or TTL[args.scheme]
    rounds = read(args.results)
    played = Counter((done.fault, done.command) for done in rounds)
    #: Fault → why it could not be done.
    missing: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="electctl-outside-") as directory,
        cluster_of(args.scheme, Path(directory, "store"), args.nodes) as cluster,
    ):
        faults = args.faults or faults_of(args.scheme, cluster.nodes, args.tool)
        cases = [
            (fault, command)
            for number in range(args.rounds)
            for fault in faults
            for command in args.commands
            if number >= played[fault, command]
        ]
        goal = len(rounds) + len(cases)

        def play(case: tuple[str, str]) -> None:
            if case[0] in missing and case[0] not in {done.fault for done in rounds}:
                return  # it cannot be done here
            try:
                done = one_round(cluster, *case, ttl, Path(directory), args.tool)
            except NotInjected as error:
                missing[case[0]] = str(error)
                return
            rounds.append(done)
            if args.results is not None:
                with args.results.open("a") as results:
                    results.write(json.dumps(asdict(done)) + "\n")
            if not args.json:
                print(f"\r{len(rounds)} of {goal} rounds", end="", file=sys.stderr)

        with ThreadPoolExecutor(args.at_once) as pool:
            list(pool.map(play, [case for case in cases if case[0] not in ALONE]))
        for case in cases:
            if case[0] in ALONE:
                play(case)
    print(file=sys.stderr)
    if args.json:
        told = {"rounds": [asdict(done) for done in rounds], "not_injected": missing}
        print(json.dumps(told, indent=1))
    else:
        print(f"{args.tool} on {args.scheme} × {cluster.nodes}")
        show(rounds, ttl)
        for fault, why in missing.items():
            print(f"{fault:14} not_injected: {why}")
    if args.tool == "electctl" and any(done.gap <= 0 for done in rounds):
        return 1
    return 3 if missing else 0


def read(results: Path | None) -> list[Round]:
    """The rounds of earlier runs."""
    if results is None or not results.exists():
        return []
    return [Round(**json.loads(line)) for line in results.read_text().splitlines()]


def show(rounds: list[Round], ttl: float) -> None:
    """The smallest margins of each fault and command."""
    print(f"ttl {ttl:g} s; smallest of the rounds, ms (takeover: largest)")
    print("fault          command   rounds      gap  before end  takeover  exit")
    for fault in FAULTS:
        for command in COMMANDS:
            some = [r for r in rounds if (r.fault, r.command) == (fault, command)]
            if not some:
                continue
            ends = [r.before_end for r in some if r.before_end is not None]
            codes = sorted({str(r.exit_code) for r in some})
            print(
                f"{fault:14} {command:9} {len(some):6} {min(r.gap for r in some):8.1f} "
                f"{min(ends) if ends else float('nan'):11.1f} "
                f"{max(r.takeover for r in some):9.1f}  {','.join(codes)}"
            )


if __name__ == "__main__":
    sys.exit(main())
