"""The root of the command line: which commands there are, and the options they all take.

Only the module of the command that is called is imported. Nothing here knows a backend.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from electctl.cli import options
from electctl.cli.coerce import make_plain
from electctl.cli.frame import Frame
from electctl.errors import UsageError

#: name → (module that exports ``app``, line in ``electctl --help``), in the order of the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "campaign": ("electctl.cli.campaign", "Run a command only while leading."),
    "watch": ("electctl.cli.watch", "Follow who leads, live or as a record."),
    "holders": ("electctl.cli.holders", "Print who leads, once."),
    "evict": ("electctl.cli.evict", "Ask the leader to stop, and wait until it has."),
    "check": ("electctl.cli.check", "Do we still lead; or, from any host: does ID lead?"),
    "checkpoint": (
        "electctl.cli.checkpoint",
        "A value that only the leader in the store can write.",
    ),
    "advise": ("electctl.cli.advise", "Is a lock enough, or consensus; and which backend fits."),
    "backends": ("electctl.cli.backends", "List the schemes and what each promises."),
    "compare": ("electctl.cli.compare", "What each backend promises, and what drills show."),
    "drill": ("electctl.cli.drill", "Break something under real campaigns; what comes of it?"),
    "verify": ("electctl.cli.verify", "Was there ever more than one leader in this history?"),
    "explain": ("electctl.cli.explain", "The words of leader election, explained."),
    "sweep": ("electctl.cli.sweep", "Remove what elections that are over have left in a store."),
    "raft": ("electctl.cli.raft", "Run nodes of the built-in consensus, and see how they are."),
    "lab": ("electctl.cli.lab", "Run real servers on loopback, to try things on."),
}

_EXAMPLES = """
electctl campaign nightly -- sleep 60
electctl campaign nightly -b redis://127.0.0.1:6379/0 -- ./nightly.sh
electctl watch nightly -b redis://127.0.0.1:6379/0
electctl explain leader election
"""

_WIDTH = 100
_EVERYWHERE = "Options of every command"
_GLOBALS = ("backend", "config", "json", "quiet", "verbose")
#: Typer's own class of all usage errors; it exports only this descendant.
_TyperUsageError: type[Any] = typer.BadParameter.__mro__[1]


def new_app(*, help: str | None = None) -> typer.Typer:
    """A Typer app in the house style. ``help`` makes it a group of commands."""
    app = typer.Typer(
        cls=Group,
        help=help,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=False,
    )
    if help is not None:
        app.callback()(lambda: None)
    return app


def _takes_globals(
    backend: options.Backend = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    version: options.Version = False,
) -> None:
    """Only its signature is used: the global options, once for all commands."""


@cache
def _global_params() -> tuple[Any, ...]:
    """Made once, and shared by all commands: Typer takes a millisecond for it."""
    probe = typer.Typer(add_completion=False)
    probe.command()(_takes_globals)
    return tuple(typer.main.get_command(probe).params)


def _merge_globals(ctx: typer.Context) -> None:
    given = {name: ctx.params.pop(name) for name in _GLOBALS}
    frame = ctx.parent.find_object(Frame) if ctx.parent is not None else None
    ctx.obj = (frame or Frame()).merged(**given)


@contextmanager
def _knowing(ctx: Any) -> Iterator[None]:
    """Typer's parser raises some usage errors without saying which command they are about."""
    try:
        yield
    except _TyperUsageError as error:
        error.ctx = error.ctx or ctx
        raise


def _usage_pieces(command: Any, ctx: Any) -> list[str]:
    """The usage line as we write it: options, then each argument's metavar as it stands."""
    arguments = [p for p in command.get_params(ctx) if p.param_type_name == "argument"]
    return [command.options_metavar, *(p.metavar or p.name.upper() for p in arguments)]


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Arguments, the command's own options, and the options that all commands take."""
    sections: dict[str, list[tuple[str, str]]] = {
        "Arguments": [],
        "Options": [],
        _EVERYWHERE: [],
    }
    for param in command.get_params(ctx):
        if param.param_type_name == "argument":
            sections["Arguments"].append((param.metavar or param.name.upper(), param.help or ""))
        elif (record := param.get_help_record(ctx)) is not None:
            everywhere = param.name in (*_GLOBALS, "version", "help")
            sections[_EVERYWHERE if everywhere else "Options"].append(record)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _write_examples(epilog: str | None, formatter: Any) -> None:
    """The epilog verbatim, one command a line."""
    if epilog:
        with formatter.section("Examples"):
            for line in inspect.cleandoc(epilog).strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}".rstrip() + "\n")


class Command(TyperCommand):
    """One command: takes the global options too, shows its epilog as examples."""

    #: The hint when there is an argument or option too many, where a command knows a better one.
    stray_hint: str | None = None

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **attrs: Any) -> None:
        super().__init__(name, params=[*(params or ()), *_global_params()], **attrs)

    def get_params(self, ctx: Any) -> list[Any]:
        """Every parameter, also those that Typer adds by itself, with plain conversions."""
        return make_plain(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Merge the global options into the frame, then run."""
        _merge_globals(ctx)
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line."""
        return _usage_pieces(self, ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options."""
        _write_options(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and tell usage errors where they came from."""
        with _knowing(ctx):
            return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        _write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A group of commands: takes the global options too."""

    def __init__(self, *, params: list[Any] | None = None, **attrs: Any) -> None:
        super().__init__(params=[*(params or ()), *_global_params()], **attrs)

    def get_params(self, ctx: Any) -> list[Any]:
        """Every parameter, also those that Typer adds by itself, with plain conversions."""
        return make_plain(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Merge the global options into the frame, then run the command of the group."""
        _merge_globals(ctx)
        return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called. Raises UsageError with the nearest name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            near = get_close_matches(name, self.list_commands(ctx), 1)
            hint = f"did you mean {near[0]}?" if near else f"{ctx.command_path} --help lists them"
            if name == "help":
                hint = f"{ctx.command_path} --help, or {ctx.command_path} COMMAND --help"
            raise UsageError(f"there is no command {name!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line."""
        return [*_usage_pieces(self, ctx), self.subcommand_metavar]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options, then the commands."""
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and tell usage errors where they came from."""
        with _knowing(ctx):
            return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        _write_examples(self.epilog, formatter)


class Root(Group):
    """``electctl`` itself: a table of names, each loaded when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every name, without loading any."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load the one command that is asked for."""
        if cmd_name not in COMMANDS:
            return None
        module, line = COMMANDS[cmd_name]
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        command.short_help = line
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The table, without loading any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def root() -> Any:
    """The root command."""
    app = typer.Typer(
        cls=Root,
        epilog=_EXAMPLES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "max_content_width": _WIDTH,
        },
    )

    @app.callback()
    def electctl() -> None:
        """Use, see, compare and choose leader election.

        Global options may stand before the command or after it; -- ends them.
        """

    return typer.main.get_command(app)


def invoke(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; raises whatever went wrong.

    Typer's own usage errors come as ``UsageError``, one line and a hint.
    """
    command = root()
    if "_ELECTCTL_COMPLETE" in os.environ:
        command.main(list(argv), prog_name="electctl")  # answers the shell, and exits
    try:
        with command.make_context("electctl", list(argv)) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:
        return end.exit_code
    except _TyperUsageError as error:
        raise _usage_error(error) from None
    return 0


def _usage_error(error: Any) -> UsageError:
    """A usage error of Typer in our words: where, what, and the nearest thing that exists."""
    ctx = error.ctx
    path = ctx.command_path.removeprefix("electctl").strip()
    hint = f"{ctx.command_path} --help"
    stray = getattr(ctx.command, "stray_hint", None)
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        known = [name for param in ctx.command.get_params(ctx) for name in param.opts]
        near = get_close_matches(option, known, 1)
        return UsageError(
            f"{path} has no option {option}" if path else f"there is no option {option}",
            hint=f"did you mean {near[0]}?" if near else stray or hint,
        )
    text = error.format_message().partition("\n")[0].rstrip(". ")
    if "extra argument" in text:
        hint = stray or hint
    text = text[:1].lower() + text[1:]
    return UsageError(f"{path}: {text}" if path else text, hint=hint)
