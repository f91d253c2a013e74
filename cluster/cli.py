"""The command line, `ossia`. Commands import their parts when they run, so that the gateway needs neither torch nor Ray."""

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ossia.common import folders
from ossia.common.errors import UserError

USER_ERROR, BUG = 2, 1
DEFAULT_URL = "http://127.0.0.1:8000"

GRACE = "Seconds that requests have to finish at a stop.  [default: 30]"
PORT = click.IntRange(0, 65535)
COUNT = click.IntRange(1, (1 << 53) - 1)
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

name_option = click.option("--name", default="ossia", show_default=True, help="Which instance.")
fleet_option = click.option(
    "--fleet",
    required=True,
    help="Where the replicas are: HOST:PORT,..., controller:HOST:PORT, kubernetes:[NAMESPACE/]SERVICE[:PORT].",
)
token_option = click.option(
    "--token-file", type=FILE, help="File with the cluster's gRPC token. Default: the variable OSSIA_TOKEN."
)
log_option = click.option("--log-folder", type=FOLDER, help="Folder for JSON logs. Default: stderr.")
grace_option = click.option(
    "--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds for requests at a stop."
)
host_option = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `serve`, `replica` and `layouts` ask about the model; all None where not given."""
    for option in (
        click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="[default: float32 on CPU, bfloat16 on GPU]"),
        click.option("--max-context", type=int, help="Tokens of prompt and output together.  [default: 8192]"),
        click.option("--kv-memory", help="KV cache a rank, such as 2GiB.  [default: a share of the free memory]"),
        click.option(
            "--unpack-experts", is_flag=True, default=None, help="Hold MXFP4 experts as bfloat16: four times their memory."
        ),
    ):
        command = option(command)
    return command


date_option = click.option("--date", help="That prompts state: today, YYYY-MM-DD or none.  [default: today]")
tools_option = click.option("--tools", type=FILE, help="YAML file: tool servers that requests may name.  [default: none]")


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `serve` and `gateway` ask about what is kept; all None where not given."""
    for option in (
        click.option("--retention-days", type=float, help="How long stored things are kept.  [default: 30]"),
        click.option("--encryption-key-file", type=FILE, help="File of keys that encrypt what is stored: base64, one a line."),
        click.option(
            "--database",
            envvar="OSSIA_DATABASE",
            help="sqlite:///FILE or postgresql://USER@HOST/NAME. Default: the variable OSSIA_DATABASE, or an own file.",
        ),
    ):
        command = option(command)
    return command


def keys_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where keys are kept."""
    return name_option(
        click.option("--database", envvar="OSSIA_DATABASE", help="As the gateway has it.  [default: the instance's]")(command)
    )


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `serve` and `gateway` ask about who may come, and how; all None where not given."""
    for option in (
        click.option("--tls-client-ca", type=FILE, help="PEM file of authorities, of whose certificates clients need one."),
        click.option("--tls-key", type=FILE, help="PEM file of the certificate's key."),
        click.option("--tls-cert", type=FILE, help="PEM file of the gateway's certificate.  [default: plain HTTP]"),
        click.option("--access", type=FILE, help="YAML file: who is let in, limits, audit log.  [default: everyone is]"),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.version_option(package_name="ossia", message="ossia %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Serves OpenAI's gpt-oss models behind the OpenAI API, on one host or a cluster."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `serve` and `replica` ask about what computes; all None where not given."""
    for option in (
        click.option("--collective-timeout", type=float, help="Seconds that ranks wait for one another.  [default: 30]"),
        click.option("--costs", help="Of --engine simulated, seconds: a step, a token prefilled, decoded, of context."),
        click.option("--device", help="That --engine simulated takes the time of, --ranks of them.  [default: H100]"),
        click.option("--deterministic", is_flag=True, default=None, help="The same bits for a request in any batch; slower."),
        click.option("--no-drafts", is_flag=True, default=None, help="No speculation: one token a request and step."),
        click.option("--engine", type=click.Choice(["torch", "simulated"]), help="What computes.  [default: torch]"),
    ):
        command = option(command)
    return command


@cli.command()
@click.argument("model", required=False)
@click.option("--replicas", type=int, help="Copies of the model.  [default: 2]")
@click.option("--ranks", type=int, help="Processes that share one copy: 1, 2, 4 or 8.  [default: 2]")
@click.option("--experts", type=click.Choice(["ep", "tp"]), help="Experts whole or cut by blocks.  [default: ep]")
@click.option(
    "--placement",
    type=click.Choice(["strict-pack", "pack"]),
    help="On one node, or on several.  [default: strict-pack]",
)
@click.option("--host", help="Address of the gateway.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port of the gateway, 0 for a free one.  [default: 8000]")
@click.option("--gateway-processes", type=int, help="That share the gateway's port.  [default: 1]")
@click.option("--config", "file", type=FILE, help="YAML file with the same settings; flags win.")
@click.option("--name", help="Of this instance; several run side by side.  [default: ossia]")
@click.option("--served-model-name", multiple=True, help="Name for clients; repeatable.  [default: the model's]")
@model_options
@engine_options
@store_options
@access_options
@tools_option
@date_option
@click.option("--grace", type=float, help=GRACE)
@click.option("--ray-address", help="HOST:PORT of a running Ray.  [default: start one of its own]")
def serve(file: Path | None, served_model_name: tuple[str, ...], **flags: object) -> int:
    """Serve MODEL (a folder, or a hub id) until Ctrl-C. Without MODEL: ossia-tiny, which comes with ossia."""
    from cluster import config
    from cluster import serve as part

    return part.run(config.load({**flags, "served_model_name": served_model_name or None}, file))


@cli.command()
@name_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(name: str, as_json: bool) -> int:
    """Replicas, ranks, kernels and load. Exit code 0: all ready; 1: not; 2: no such instance."""
    from cluster import status as part
    from cluster.state import Folder

    report = asyncio.run(part.collect(Folder(name).require()))
    click.echo(json.dumps(report.json(), indent=2) if as_json else part.table(report))
    return 0 if report.healthy else 1


@cli.command()
@name_option
def stop(name: str) -> None:
    """Stop an instance: no new requests, those in progress finish, nothing is left running."""
    from cluster import stop as part

    part.stop(name)


@cli.command()
@click.argument("part", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on.")
@name_option
def logs(part: str | None, follow: bool, name: str) -> None:
    """JSON logs of all processes by time, or of PART: gateway, supervisor, replica-0, replica-0/rank-1."""
    from cluster import logs as logs_part

    logs_part.show(name, part, follow, sys.stdout)


@cli.command()
@click.option("--url", help="Of the server, without /v1.  [default: that of the instance]")
@click.option("--model", help="[default: the first that the server lists]")
@name_option
def chat(url: str | None, model: str | None, name: str) -> None:
    """Talk to the model in the terminal. /exit or Ctrl-D ends."""
    from cluster import chat as part
    from cluster.state import Folder

    instance = None if url else Folder(name).read()
    part.run(url or (instance.url if instance else DEFAULT_URL), model)


@cli.command()
@fleet_option
@host_option
@click.option("--port", type=PORT, default=8000, show_default=True, help="0 for a free one.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="That share the port.")
@click.option("--served-model-name", multiple=True, help="Name for clients; repeatable.  [default: the model's]")
@token_option
@log_option
@store_options
@access_options
@tools_option
@date_option
@grace_option
def gateway(
    fleet: str,
    host: str,
    port: int,
    processes: int,
    served_model_name: tuple[str, ...],
    token_file: Path | None,
    log_folder: Path | None,
    database: str | None,
    encryption_key_file: Path | None,
    retention_days: float | None,
    access: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    tools: Path | None,
    date: str | None,
    grace: float,
) -> None:
    """The OpenAI API over HTTP, in front of the replicas or routers of a fleet."""
    from cluster import token
    from router.access.config import load
    from router.gateway.server import GatewayConfig, run
    from router.gateway.settings import parse_date
    from router.gateway.tls import Tls
    from router.store.config import RETENTION_DAYS, StoreConfig
    from router.tools.config import ToolsConfig
    from router.tools.config import read as read_tools

    secret = token.read(token_file)
    store = StoreConfig(database, encryption_key_file, RETENTION_DAYS if retention_days is None else retention_days)
    run(
        GatewayConfig(
            fleet,
            host,
            port,
            secret,
            served_model_name,
            log_folder=log_folder,
            grace_s=grace,
            processes=processes,
            tls=Tls.of(tls_cert, tls_key, tls_client_ca),
            store=store,
            access=load(access) if access else None,
            tools=read_tools(tools) if tools else ToolsConfig(),
            prompt_date=parse_date(date or "today"),
        )
    )


@cli.group()
def keys() -> None:
    """API keys, for gateways whose --access file says `keys: true`."""


@keys.command("create")
@click.option("--tenant", default="default", show_default=True, help="Whose it is; what is stored belongs to a tenant.")
@click.option("--label", default="", help="To tell keys apart.")
@click.option("--model", "models", multiple=True, help="That it may use; repeatable.  [default: all]")
@click.option("--days", type=click.FloatRange(0, min_open=True), help="After which it expires.  [default: never]")
@click.option("--requests-per-minute", type=COUNT)
@click.option("--tokens-per-minute", type=COUNT, help="Of prompts and outputs.")
@click.option("--tokens-per-day", type=COUNT)
@click.option("--concurrent-requests", type=COUNT)
@click.option("--highest-priority", type=int, help="The least `priority` that its requests may have: lower comes first.")
@click.option(
    "--reasoning",
    type=click.Choice(["both", "reasoning", "reasoning_content"]),
    default="both",
    show_default=True,
    help="Where chat completions show it what the model thought.",
)
@keys_options
def create_key(
    database: str | None,
    name: str,
    tenant: str,
    label: str,
    models: tuple[str, ...],
    days: float | None,
    highest_priority: int | None,
    reasoning: str,
    **limits: int | None,
) -> None:
    """Make a key and print it: nobody can show it again. Limits not given are those of the --access file."""
    from cluster import keys as part

    limited = part.Limited(models, days, limits, highest_priority, reasoning)
    key, stored = part.create(part.database(database, name), tenant, label, limited)
    click.echo(f"{stored.id} of tenant {tenant}:", err=True)
    click.echo(key)


@keys.command("list")
@click.option("--tenant", help="Whose.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@keys_options
def list_keys(database: str | None, name: str, tenant: str | None, as_json: bool) -> None:
    """All keys with their limits, revoked ones too; never the keys themselves."""
    from cluster import keys as part

    found = part.listed(part.database(database, name), tenant)
    click.echo(part.documents(found) if as_json else part.table(found))


@keys.command("revoke")
@click.argument("id")
@keys_options
def revoke_key(database: str | None, name: str, id: str) -> None:
    """Have the key ID open nothing any more, five seconds from now at most."""
    from cluster import keys as part

    part.revoke(part.database(database, name), id)


@cli.command()
@fleet_option
@host_option
@click.option("--port", type=PORT, default=8001, show_default=True, help="Of the Engine protocol (gRPC); 0 for a free one.")
@click.option("--metrics-port", type=PORT, default=0, help="Of Prometheus metrics.  [default: a free one]")
@token_option
@log_option
@grace_option
def router(
    fleet: str, host: str, port: int, metrics_port: int, token_file: Path | None, log_folder: Path | None, grace: float
) -> None:
    """One engine made of the engines of a fleet, over gRPC."""
    from cluster import token
    from router.server import RouterConfig, run

    secret = token.require(host, token_file)
    run(RouterConfig(fleet, host, port, metrics_port, secret, log_folder, grace))


@cli.command()
@click.argument("model", required=False)
@click.option("--ranks", type=int, help="Processes that share the model: 1, 2, 4 or 8.  [default: 2]")
@click.option("--experts", type=click.Choice(["ep", "tp"]), help="Experts whole or cut by blocks.  [default: ep]")
@click.option("--host", help="Address of the leader.  [default: 127.0.0.1]")
@click.option("--port", type=int, default=50051, show_default=True, help="Of the leader (gRPC); 0 for a free one.")
@click.option("--served-model-name", multiple=True, help="Name for clients; repeatable.  [default: the model's]")
@model_options
@engine_options
@click.option("--grace", type=float, help=GRACE)
@token_option
@log_option
def replica(token_file: Path | None, log_folder: Path | None, served_model_name: tuple[str, ...], **flags: object) -> int:
    """One copy of MODEL inside this host, without a gateway: for `ossia gateway --fleet` to find."""
    from cluster import config, standalone

    asked = config.load({**flags, "served_model_name": served_model_name or None})
    return standalone.run(standalone.ReplicaConfig(asked, token_file, log_folder))


@cli.command()
@host_option
@click.option("--port", type=PORT, default=8002, show_default=True, help="0 for a free one.")
@click.option("--memory-mib", type=click.IntRange(64), default=512, show_default=True, help="Of each interpreter.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, help="Seconds of a call.")
@click.option("--token-file", type=FILE, help="File with the bearer token that callers show; needed beyond loopback.")
@log_option
def python_tool(
    host: str, port: int, memory_mib: int, timeout: float, token_file: Path | None, log_folder: Path | None
) -> None:
    """The tool that runs models' Python, on a host of its own: for a `url` in the gateway's --tools file."""
    from cluster import token
    from ossia.common import wire
    from router.tools.python.http import run
    from router.tools.python.lockdown import Limits
    from router.tools.python.server import PythonConfig

    secret = token.read(token_file) if token_file else None
    if secret is None and not wire.is_loopback(host):
        raise UserError(
            f"listening on {host} needs a token of the tool's own: write one to a file, and give it as --token-file"
        )
    run(PythonConfig(Limits(memory=memory_mib << 20), timeout), host, port, secret, log_folder)


@cli.command()
@click.argument("folder", type=FOLDER)
@click.option("--hidden", type=int, default=128, show_default=True, help="Hidden size, a multiple of 32.")
@click.option("--intermediate", type=int, default=256, show_default=True, help="Of an expert, a multiple of 32.")
@click.option("--layers", type=int, default=4, show_default=True)
@click.option("--experts", type=int, default=8, show_default=True)
@click.option("--heads", type=int, default=16, show_default=True, help="Of queries.")
@click.option("--kv-heads", type=int, default=8, show_default=True, help="Of keys and values.")
@click.option("--seed", type=int, default=0, show_default=True)
def make_checkpoint(
    folder: Path, hidden: int, intermediate: int, layers: int, experts: int, heads: int, kv_heads: int, seed: int
) -> None:
    """Write a random checkpoint in the released MXFP4 format to FOLDER, for tests and benchmarks."""
    from cluster import make_checkpoint as part
    from workers.model.config import ModelConfig

    model = ModelConfig(
        layers,
        experts,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    )
    part.make_checkpoint(folder, model, seed)
    click.echo(folder)


@cli.command()
@click.argument("model", required=False)
@click.option("--device-memory", help="Of each device, such as 80GiB.  [default: what is free on this host, shared by all]")
@click.option("--replicas", type=click.IntRange(1), default=2, show_default=True, help="That share this host.")
@model_options
def layouts(model: str | None, device_memory: str | None, replicas: int, **flags: object) -> None:
    """Which layouts of MODEL fit, and why the others do not."""
    from cluster import config
    from cluster import layouts as part

    click.echo(part.describe(config.load({"model": model, **flags}), replicas, device_memory))


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2; a bug of ours one line, a traceback in a file, and 1."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), USER_ERROR)
    except click.ClickException as error:
        _fail(error.format_message(), USER_ERROR)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has had enough
        sys.exit(0)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error} (a bug of ossia; traceback in {_keep_traceback()})", BUG)


def _fail(message: str, code: int) -> None:
    click.echo(f"ossia: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _keep_traceback() -> Path:
    """Writes the exception that is being handled to a file of its own."""
    name = f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.log"
    try:
        file = folders.state() / name
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file)
    except (UserError, OSError):  # a read-only home, or none
        file = Path(tempfile.gettempdir()) / f"ossia-{name}"
        handler = logging.FileHandler(file)
    record = logging.LogRecord("ossia", logging.ERROR, __file__, 0, " ".join(sys.argv), None, sys.exc_info())
    handler.emit(record)
    handler.close()
    return file


if __name__ == "__main__":
    main()
