"""What every command shares: the data folder, JSON or text, errors, progress."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TextIO, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from clinic.config import Config
from clinic.domain import Stage
from clinic.errors import ClinicError, InputError, PolicyDeniedError

if TYPE_CHECKING:
    from clinic.crypto.keys import Keyring
    from clinic.records.records import Records

_ABORTED = 2

F = TypeVar("F", bound=Callable[..., Any])

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


_MAY_BE_A_KEY = re.compile(r"[0-9A-Za-z]{40,}")


class ClinicGroup(click.Group):
    """Loads a command when it is called, and turns every `ClinicError` into one clear message and its exit code."""

    def __init__(self, *, commands_by_name: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._places = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a newcomer needs them."""
        del ctx
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command."""
        del ctx
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._places.items()])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run; a usage error under `--json` is a document, too."""
        given = list(sys.argv[1:] if args is None else args)
        if "--json" not in given:
            return super().main(given, *rest, **extra)
        try:
            code = super().main(given, *rest, **extra | {"standalone_mode": False})
        except click.ClickException as error:
            print_json({"error": {"code": "usage", "message": error.format_message(), "hint": "see --help"}})
            err.print(f"error: {error.format_message()} (usage)", markup=False)
            sys.exit(error.exit_code)
        except click.Abort:
            print_json({"error": {"code": "aborted", "message": "nothing was typed", "hint": "run it at a terminal"}})
            sys.exit(_ABORTED)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ClinicError as error:
            _fail(ctx, error)
        except click.ClickException as error:
            # Click repeats what it does not understand; a key that was put in the wrong place must not be on a screen.
            said = error.format_message()
            shown = _MAY_BE_A_KEY.sub("...", said)
            if shown == said:
                raise
            raise click.UsageError(shown, ctx=getattr(error, "ctx", None)) from None


def _fail(ctx: click.Context, error: ClinicError) -> NoReturn:
    if wants_json(ctx):
        document: dict[str, Any] = {"code": error.code, "message": str(error), "hint": error.hint}
        if isinstance(error, PolicyDeniedError):
            document["policies"] = list(error.policies)
        print_json({"error": document})
    err.print(f"error: {error} ({error.code})", markup=False)
    if error.hint:
        err.print(f"hint: {error.hint}", markup=False)
    ctx.exit(error.exit_code)


def wants_json(ctx: click.Context) -> bool:
    """Whether the command that ran was given `--json`."""
    return bool(ctx.find_root().meta.get("clinic.json"))


def _remember_home(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        ctx.find_root().meta["clinic.home"] = value
    return value


def _remember_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's protocol
    ctx.find_root().meta["clinic.json"] = value
    return value


def home_option(function: F) -> F:
    """Add `--home DIR`, allowed before and after the command's name."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_remember_home,
        expose_value=False,
        help="The data folder.  Default: CLINIC_HOME, or ~/.local/share/clinic.",
    )(function)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, callback=_remember_json, help="One JSON document on stdout."
    )(function)


def home_path() -> Path:
    """Return the data folder that this invocation names."""
    named = click.get_current_context().find_root().meta.get("clinic.home")
    if isinstance(named, Path):
        return named
    return Path(os.environ.get("CLINIC_HOME") or Path.home() / ".local" / "share" / "clinic")


def load_config() -> Config:
    """Return the configuration of that data folder."""
    return Config.load(home_path())


def unlock_here(config: Config) -> Keyring:
    """Unlock the data folder: unattended where its key source allows, else with `CLINIC_PASSPHRASE` or by asking.

    The variable is taken out of the environment: what this process starts does not inherit it.
    """
    from clinic.home import unlock_home

    return unlock_home(config, passphrase=unlock_passphrase(config))


def unlock_passphrase(config: Config) -> str | None:
    """Protect this process, and return the passphrase where the data folder is unlocked with one, as `unlock_here`."""
    from clinic.crypto.process import harden_process
    from clinic.handover import PASSPHRASE_VARIABLE
    from clinic.home import can_unlock_unattended

    harden_process()
    passphrase = os.environ.pop(PASSPHRASE_VARIABLE, None)
    if can_unlock_unattended(config):
        return None
    if passphrase is None and sys.stdin.isatty():
        passphrase = click.prompt("Passphrase", hide_input=True, err=True)
    return passphrase


def open_here() -> tuple[Config, Keyring, Records]:
    """Return configuration, keyring and records of the data folder."""
    from clinic.home import open_records

    config = load_config()
    keyring = unlock_here(config)
    return config, keyring, open_records(config, keyring)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def read_stream(file: TextIO) -> str:
    """Read a text file that click opened.

    Raises:
        InputError: `text_not_utf8`.
    """
    try:
        return file.read()
    except UnicodeDecodeError:
        raise InputError("the file is not UTF-8 text", code="text_not_utf8", hint="save it as UTF-8") from None


@contextmanager
def stage_progress(*, enabled: bool) -> Iterator[Callable[[Stage, float], None]]:
    """Show one progress bar a stage on stderr; yields the function that the flow reports to."""
    words = {
        Stage.TRANSCRIBE: "transcribe",
        Stage.DECIDE: "decide and record",
        Stage.GENERATE: "generate",
        Stage.VERIFY: "verify",
        Stage.STORE: "seal and store",
    }
    if not enabled:
        yield lambda _stage, _done: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bars:
        tasks: dict[Stage, Any] = {}

        def report(stage: Stage, done: float) -> None:
            for earlier, task in tasks.items():
                if earlier is not stage:
                    bars.update(task, completed=1.0)
            if stage not in tasks:
                tasks[stage] = bars.add_task(words[stage], total=1.0)
            bars.update(tasks[stage], completed=done)

        yield report
        for task in tasks.values():
            bars.update(task, completed=1.0)


class Bars:
    """One progress bar on stderr for work of which the amount is known."""

    def __init__(self, name: str, *, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task(name, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def report(self, done: int, of: int) -> None:
        """Show how far it is."""
        self._progress.update(self._task, completed=done, total=max(of, 1))
