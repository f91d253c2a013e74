"""Clients in Node.js: each script of node/ says which parts went well, and throws what did not."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sdks.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FOLDER = Path(__file__).parent
BOTH = [f"{api}.{part}" for api in ("responses", "chat") for part in ("streaming", "tools", "structured", "state")][:-1]
SCRIPTS = {"openai": ["chat", "streaming", "tools", "structured", "responses"], "agents": BOTH, "vercel": BOTH}


@pytest.fixture(scope="module")
def packages() -> None:
    """What the scripts in node/ import."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    wanted = (FOLDER / "package-lock.json").read_bytes()
    stamp = FOLDER / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_bytes() != wanted:
        subprocess.run(["npm", "ci", "--no-progress", "--loglevel=error"], cwd=FOLDER, check=True, capture_output=True)
        stamp.write_bytes(wanted)


@pytest.mark.parametrize("script", SCRIPTS)
def test_node(packages: None, served: Served, script: str) -> None:
    command = ["node", f"node/{script}.mjs", served.url, served.model]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stdout.split()) == (0, SCRIPTS[script]), done.stderr
