"""The command `edgebrush`: one file per verb, which imports heavy packages only when it runs."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer

from edgebrush.errors import UserError
from edgebrush.logs import configure_logging

from . import (
    compare,
    evaluate,
    fit_scenario,
    gdm,
    generate,
    init,
    journal,
    polish,
    profile,
    profiles,
    report,
    reproduce,
    scenarios,
    serve,
    testbed,
    train,
    tune,
    tune_learners,
    ue,
)
from .messages import print_line

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a second thread costs more than it saves
UsageError: Any = typer.BadParameter.__base__  # click's; the import path depends on typer's version
INTERRUPTED = 130  # 128 + SIGINT, as in shells

EXAMPLES = """\
[bold]Examples[/bold]

edgebrush scenarios                          [dim]list the scenarios that ship with it[/dim]

edgebrush compare                            [dim]tune, train and compare on the scenario campus[/dim]

edgebrush scenarios show campus > mine.yaml  [dim]start your own scenario[/dim]

edgebrush scenarios check mine.yaml          [dim]is it valid, and how loaded is it?[/dim]

edgebrush compare mine.yaml                  [dim]compare on your scenario[/dim]

edgebrush profiles --plot profiles.png       [dim]cost and quality of the diffusion models[/dim]

edgebrush generate --steps 10 --out sheet.png  [dim]images by the model that ships with it[/dim]

edgebrush --install-completion               [dim]completion of verbs, options and names in your shell[/dim]
"""

app = typer.Typer(
    help="Schedule image generation at the edge: where, when and with how many denoising steps.",
    epilog=EXAMPLES,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

# One line per verb.
app.add_typer(scenarios.app, name="scenarios")
app.add_typer(profiles.app, name="profiles")
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=tune.EPILOG)(tune.tune)
app.command(epilog=tune_learners.EPILOG)(tune_learners.tune_learners)
app.command(epilog=polish.EPILOG)(polish.polish)
app.command(epilog=report.EPILOG)(report.report)
app.command(epilog=reproduce.EPILOG)(reproduce.reproduce)
app.command(epilog=profile.EPILOG)(profile.profile)
app.command(epilog=generate.EPILOG)(generate.generate)
app.command(epilog=serve.EPILOG)(serve.serve)
app.command(epilog=init.EPILOG)(init.init)
app.command(epilog=ue.EPILOG)(ue.ue)
app.command(epilog=journal.EPILOG)(journal.journal)
app.command(epilog=fit_scenario.EPILOG)(fit_scenario.fit_scenario)
app.command(epilog=testbed.EPILOG)(testbed.testbed)
app.add_typer(gdm.app, name="gdm")


@app.callback(invoke_without_command=True)
def edgebrush(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        print(f"edgebrush {version('edgebrush')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A user error is one line on stderr and code 2."""
    configure_logging()
    try:
        with one_line_deprecations():
            code = app(arguments, prog_name="edgebrush", standalone_mode=False)
    except UserError as error:
        return fail(str(error))
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "edgebrush"
        return fail(f"{error.format_message().rstrip('.')}; see `{command} --help`")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print_line("interrupted", logging.WARNING)
    return code or 0


@contextmanager
def one_line_deprecations() -> Iterator[None]:
    """Show each ``FutureWarning``, a deprecated name, as one line on stderr, without its place in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_in_one_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, FutureWarning):
                print_line(f"warning: {message}", logging.WARNING)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = show_in_one_line
        yield


def fail(message: str) -> int:
    """Print a user error in one line; returns the exit code."""
    print_line(f"error: {message}", logging.ERROR)
    return 2


if __name__ == "__main__":
    sys.exit(run())
