"""Logs where there is no room for them."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import logging, sys
from pathlib import Path
from ossia.common import logs
logs.configure("part", Path(sys.argv[1]))
for number in range(3):
    logging.warning("%d", number)
logging.shutdown()
"""


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "part.jsonl").symlink_to("/dev/full")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == f"{tmp_path}/part.jsonl: logs are lost: No space left on device\n"
