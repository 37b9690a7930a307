"""``electctl`` and ``python -m electctl``: the one place where errors become exit codes."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code; prints every error in one or two lines."""
    from electctl.cli.app import invoke
    from electctl.cli.render import error_lines
    from electctl.errors import ElectctlError

    try:
        return invoke(argv)
    except ElectctlError as error:
        sys.stderr.write(error_lines(error))
        return error.exit_code


if __name__ == "__main__":
    main()
