"""The command line, `ossia`. Commands import their parts when they run, so that the gateway needs neither torch nor Ray."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from ossia.common import folders
from ossia.common.errors import UserError

USER_ERROR, BUG = 2, 1
DEFAULT_URL = "http://127.0.0.1:8000"

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


@click.group(invoke_without_command=True)
@click.version_option(package_name="ossia", message="ossia %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Serves OpenAI's gpt-oss models behind the OpenAI API, on one host or a cluster."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("model", required=False)
@click.option("--replicas", type=int, help="Copies of the model.  [default: 2]")
@click.option("--ranks", type=int, help="Processes that share one copy: 1, 2, 4 or 8.  [default: 2]")
@click.option("--experts", type=click.Choice(["ep", "tp"]), help="Experts whole or cut by blocks.  [default: ep]")
@click.option("--host", help="Address of the gateway.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port of the gateway, 0 for a free one.  [default: 8000]")
@click.option("--config", "file", type=FILE, help="YAML file with the same settings; flags win.")
@click.option("--name", help="Of this instance; several run side by side.  [default: ossia]")
@click.option("--served-model-name", multiple=True, help="Name for clients; repeatable.  [default: the model's]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="[default: float32 on CPU, bfloat16 on GPU]")
@click.option("--max-context", type=int, help="Tokens of prompt and output together.  [default: 8192]")
@click.option("--kv-memory", help="KV cache a rank, such as 2GiB.  [default: a share of the free memory]")
@click.option("--unpack-experts", is_flag=True, default=None, help="Hold MXFP4 experts as bfloat16: four times their memory.")
@click.option("--ray-address", help="HOST:PORT of a running Ray.  [default: start one of its own]")
@click.option("--grace", type=float, help="Seconds that requests have to finish at a stop.  [default: 30]")
def serve(file: Path | None, served_model_name: tuple[str, ...], **flags: object) -> int:
    """Serve MODEL (a folder, or a hub id) until Ctrl-C. Without MODEL: a small random one."""
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

    instance = Folder(name).read()
    part.run(url or (instance.url if instance else DEFAULT_URL), model)


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
    folder = folders.state()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.log"
    handler = logging.FileHandler(file)
    record = logging.LogRecord("ossia", logging.ERROR, __file__, 0, " ".join(sys.argv), None, sys.exc_info())
    handler.emit(record)
    handler.close()
    return file


if __name__ == "__main__":
    main()
