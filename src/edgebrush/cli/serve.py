"""`edgebrush serve`: a base station that makes images over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """\
edgebrush serve                                              the heavy model on http://127.0.0.1:8000

curl -s localhost:8000/v1/images/generations -H 'content-type: application/json' -d '{"prompt": "sneaker"}'

edgebrush serve --speed 0.1 --name small --port 0            as slow as a tenth of the profile's machine

TOKEN=... edgebrush serve --host 0.0.0.0 --token-env TOKEN --tls-cert cert.pem --tls-key key.pem

docs/serving.md has the interface, the limits and the metrics.
"""


def read_config(context: typer.Context, file: Path | None) -> None:
    """Take the file's options as defaults. Raises ``UserError`` where it holds none, or one that is not there."""
    if file is None:
        return
    import yaml

    from edgebrush.errors import UserError
    from edgebrush.scenario.load import NOT_YAML, UniqueKeyLoader, read_yaml

    try:
        content = yaml.load(read_yaml(file), UniqueKeyLoader)
    except NOT_YAML as error:
        raise UserError(f"{file}: not valid YAML: {error}") from None
    known = {str(option.name).replace("_", "-"): option.name for option in context.command.params}
    if not isinstance(content, dict) or set(content) - set(known):
        odd = ", ".join(map(str, set(content) - set(known))) if isinstance(content, dict) else "no mapping"
        raise UserError(f"{file}: {odd}: must be options of `edgebrush serve`, as `batch-limit: 4`")
    context.default_map = {known[name]: value for name, value in content.items()}


def serve(
    model: Annotated[str, typer.Option(help="heavy, light, or the folder of a model.")] = "heavy",
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 finds a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="What the station calls itself.")] = "station",
    batch_limit: Annotated[int, typer.Option(min=1, max=256, help="Tasks in a batch.")] = 4,
    queue_limit: Annotated[int, typer.Option(min=1, max=10_000, help="Tasks that may wait; beyond, 429.")] = 32,
    connection_limit: Annotated[int, typer.Option(min=1, max=400, help="Image requests at once; beyond, 429.")] = 64,
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps of a task.")] = 100,
    profile: Annotated[
        str | None,
        typer.Option(help="What a step costs: a profile's name or .json file.", show_default="the shipped model's"),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=1e-3, max=1000, help="As fast as the profile's machine times this.", show_default="all that this has"
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(help="euler or multistep.")] = "euler",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of one network evaluation.")] = 1,
    token_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="The environment variable with the token to ask for.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Or the file with it.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Serve HTTPS with this certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="And this key.")] = None,
    grace: Annotated[
        float, typer.Option(min=0, max=3600, help="On SIGTERM what waits is handed back; what runs has these seconds.")
    ] = 30.0,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", is_eager=True, callback=read_config, help="YAML with any of these options."),
    ] = None,
) -> None:
    """Serve a GDM as a base station does: OpenAI's images API over step-level batching."""
    from edgebrush.api.server import Address, Server, run
    from edgebrush.diffusion.onnx import load_model, shipped_models
    from edgebrush.diffusion.samplers import make_sampler
    from edgebrush.errors import UserError
    from edgebrush.profiles.catalogue import load_profile
    from edgebrush.serving.app import create_app
    from edgebrush.serving.station import Limits, Station

    if (tls_cert is None) != (tls_key is None):
        raise UserError("tls: --tls-cert and --tls-key belong together; give both")
    token = read_token(token_env, token_file)
    backend = load_model(model, threads)
    if profile is None and model not in shipped_models():
        raise UserError(f"profile: {model} has none of its own; give --profile, which `edgebrush profile` writes")
    figures = load_profile(profile or f"fashion-{model}-cpu")
    limits = Limits(batch_limit, queue_limit, connection_limit, max_steps)
    station = Station(name, backend, make_sampler(sampler, backend), figures, limits, speed)

    def ready() -> None:
        typer.echo(f"{name} serves {backend.name} at {server.url}")

    app, address = create_app(station, token), Address(host, port, tls_cert, tls_key)
    server = Server(app, address, grace, ready, lambda: station.stop(grace))
    run(server)


def read_token(variable: str | None, file: Path | None) -> str | None:
    """The bearer token to ask for, where one is wanted. Raises ``UserError`` where it is not there."""
    import os

    from edgebrush.errors import UserError

    if variable is None and file is None:
        return None
    if variable is not None and file is not None:
        raise UserError("token: --token-env and --token-file are both given; keep one")
    if variable is not None:
        where, token = f"token-env = {variable!r}", os.environ.get(variable, "").strip()
    else:
        where = f"token-file = {str(file)!r}"
        try:
            token = file.read_text().strip() if file else ""
        except (OSError, ValueError) as error:
            raise UserError(f"{where}: cannot be read: {error}") from None
    if not token.isascii() or not token.isprintable() or not token:
        raise UserError(f"{where}: holds no token (printable ASCII); set it")
    return token
