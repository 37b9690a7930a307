"""Options that several commands share, defined once.

What this does not guarantee: that values fit together; the command checks that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from electctl.errors import UsageError

Backend = Annotated[
    list[str] | None,
    typer.Option(
        "-b",
        "--backend",
        metavar="URL",
        help="Where it is held; repeatable. [env: ELECTCTL_BACKEND; default: local:]",
        show_default=False,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="Instead of ./electctl.yaml or the user's. [env: ELECTCTL_CONFIG]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No messages but errors.")]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="More messages.", show_default=False)
]


def _show_version(value: bool) -> None:
    if value:
        from electctl import __version__

        typer.echo(f"electctl {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        help="Print the version.",
        callback=_show_version,
        is_eager=True,
        expose_value=False,
    ),
]

Elections = Annotated[
    list[str],
    typer.Argument(metavar="ELECTION...", help="The elections, by name.", show_default=False),
]
Election = Annotated[
    str, typer.Argument(metavar="ELECTION", help="The election, by name.", show_default=False)
]


def _named(option: str, parse: Callable[[str], float]) -> Callable[[str], float]:
    def parser(text: str) -> float:
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{option}: {error.message}", hint=error.hint) from None

    return parser


def Duration(option: str, *, help: str) -> Any:
    """An option that takes a duration (``500ms``, ``10s``, ``2m``) and gives seconds as a float."""
    from electctl.base.duration import parse_duration

    return typer.Option(
        option, metavar="TIME", help=help, parser=_named(option, parse_duration), show_default=False
    )
