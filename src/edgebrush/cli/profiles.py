"""`edgebrush profiles`: what each model costs and yields on its hardware, as a table and as a picture."""

from __future__ import annotations

import typer

app = typer.Typer(help="Show the models' measured speed, energy and quality.")


@app.callback(invoke_without_command=True)
def profiles(context: typer.Context) -> None:
    pass
