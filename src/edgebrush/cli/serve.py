"""`edgebrush serve`: a base station, an image generation server with OpenAI's images API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .messages import print_line
from .models import DeviceOption, DtypeOption, GuidanceOption, PipelineOption, SamplerOption, open_model, open_pipeline
from .options import AllowHostOption, AllowOriginOption, LogFormatOption, LogLevelOption, TracesOption

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend
    from edgebrush.diffusion.pipelines import PipelineBackend

EPILOG = """\
edgebrush serve                                              the heavy model on http://127.0.0.1:8000

curl -s localhost:8000/v1/images/generations -H 'content-type: application/json' -d '{"prompt": "sneaker"}'

edgebrush serve --pipeline ~/stable-diffusion-v1-5 --device cuda --profile sd15-h100 --batch-limit 8

edgebrush serve --speed 0.1 --name small --port 0            a tenth of the speed of the profile's hardware

TOKEN=... edgebrush serve --host 0.0.0.0 --token-env TOKEN --tls-cert cert.pem --tls-key key.pem

docs/serving.md describes the API, the limits and the metrics.
"""


def read_config(context: typer.Context, file: Path | None) -> None:
    """Use the options in a YAML file as defaults. Raises ``UserError`` for an unreadable file or unknown options."""
    if file is None:
        return
    import yaml

    from edgebrush.errors import UserError
    from edgebrush.scenario.load import YAML_ERRORS, UniqueKeyLoader, read_yaml

    try:
        content = yaml.load(read_yaml(file), UniqueKeyLoader)
    except YAML_ERRORS as error:
        raise UserError(f"{file}: not valid YAML: {error}") from None
    known = {str(option.name).replace("_", "-"): option.name for option in context.command.params}
    if not isinstance(content, dict) or set(content) - set(known):
        unknown = ", ".join(map(str, set(content) - set(known))) if isinstance(content, dict) else "not a mapping"
        raise UserError(f"{file}: {unknown}: must be options of `edgebrush serve`, as `batch-limit: 4`")
    context.default_map = {known[name]: value for name, value in content.items()}


def serve(
    model: Annotated[str, typer.Option(help="heavy, light, or the folder of a model.")] = "heavy",
    pipeline: PipelineOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    guidance: GuidanceOption = None,
    cuda_graphs: Annotated[
        bool, typer.Option(help="On a GPU, launch the kernels of a small batch at once: up to 3 times as fast.")
    ] = True,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 means all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="Name of the station in logs and metrics.")] = "station",
    batch_limit: Annotated[
        int, typer.Option(min=1, max=256, help="Maximum number of tasks in a batch; a GPU's memory may allow fewer.")
    ] = 4,
    queue_limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Maximum number of waiting tasks; more get status 429.")
    ] = 32,
    connection_limit: Annotated[
        int, typer.Option(min=1, max=400, help="Maximum number of concurrent image requests; more get status 429.")
    ] = 64,
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of denoising steps of a task.")] = 100,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Profile with the cost of a step: a name or a .json file.", show_default="the shipped model's"
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            max=1000,
            help="Emulate the profile's hardware at this relative speed.",
            show_default="as fast as this machine allows",
        ),
    ] = None,
    sampler: SamplerOption = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads per network evaluation.")] = 1,
    token_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Require the bearer token in this environment variable.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Require the bearer token in this file.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Serve HTTPS with this certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Key of the certificate.")] = None,
    allow_host: AllowHostOption = [],  # noqa: B006
    allow_origin: AllowOriginOption = [],  # noqa: B006
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            help="Seconds for running tasks to finish after SIGTERM; waiting tasks are rejected at once.",
        ),
    ] = 30.0,
    log_format: LogFormatOption = "text",
    log_level: LogLevelOption = "warning",
    traces: TracesOption = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", is_eager=True, callback=read_config, help="YAML file with any of these options."),
    ] = None,
) -> None:
    """Serve a diffusion model like a base station: OpenAI's images API with step-level batching."""
    from edgebrush.api.server import Address, Server, run
    from edgebrush.diffusion.onnx import shipped_models
    from edgebrush.diffusion.samplers import make_sampler
    from edgebrush.errors import UserError
    from edgebrush.logs import configure_logging, hide_in_logs
    from edgebrush.profiles.catalogue import load_profile
    from edgebrush.serving.app import create_app
    from edgebrush.serving.station import Limits, Station
    from edgebrush.traces import start_traces

    configure_logging(log_format, log_level)
    if traces:
        start_traces("edgebrush-station", name)
    if (tls_cert is None) != (tls_key is None):
        raise UserError("tls: --tls-cert and --tls-key must be given together")
    token = read_token(token_env, token_file)
    hide_in_logs(token or "")
    backend: Backend
    if pipeline is None:
        backend = open_model(model, device, dtype, threads, guidance)
    if profile is None and (pipeline or model not in shipped_models()):
        folder = pipeline or model
        raise UserError(f"profile: {folder} has none; measure one with `edgebrush profile` and give --profile")
    loaded_profile = load_profile(profile or f"fashion-{model}-cpu")
    if pipeline is not None:  # last, since it takes long
        backend = open_pipeline(pipeline, device, dtype, threads, guidance)
        batch_limit = prepare(backend, name, batch_limit, cuda_graphs)
    limits = Limits(batch_limit, queue_limit, connection_limit, max_steps)
    station = Station(name, backend, make_sampler(sampler, backend), loaded_profile, limits, speed)

    def ready() -> None:
        typer.echo(f"{name} serves {backend.name} at {server.url}")

    app = create_app(station, token)
    address = Address(host, port, tls_cert, tls_key, tuple(allow_host), tuple(allow_origin))
    server = Server(app, address, grace, ready, lambda: station.stop(grace))
    run(server)


def prepare(backend: PipelineBackend, name: str, batch_limit: int, cuda_graphs: bool) -> int:
    """Warm a pipeline up, and return the batch that its device holds, at most ``batch_limit``."""
    from edgebrush.diffusion.warm_up import warm_up

    prepared = warm_up(backend, batch_limit, cuda_graphs)
    print_line(f"{name}: {backend.name} on {backend.device}: guidance {backend.guidance:g}, {prepared}")
    return prepared.batch_limit


def read_token(variable: str | None, file: Path | None) -> str | None:
    """The bearer token to require, None without one. Raises ``UserError`` where it is missing or malformed."""
    import os

    from edgebrush.errors import UserError

    if variable is None and file is None:
        return None
    if variable is not None and file is not None:
        raise UserError("token: --token-env and --token-file are both given; give one")
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
