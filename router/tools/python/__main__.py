"""`python -m router.tools.python MEMORY TIMEOUT_S OUTPUT`: the tool over stdio, as the gateway starts it. Bytes, seconds."""

import asyncio
import signal
import sys

from ossia.common.errors import UserError
from router.tools.python.lockdown import Limits
from router.tools.python.server import PythonConfig, serve_stdio


async def _main(memory: str, timeout_s: str, output: str) -> None:
    task = asyncio.ensure_future(serve_stdio(PythonConfig(Limits(memory=int(memory)), float(timeout_s), int(output))))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
    except UserError as error:
        sys.exit(f"ossia: {error}")


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
