"""Code in a locked interpreter: what it can do, what it cannot, and what becomes of it when it takes too much."""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator

import pytest

from router.tools.python.lockdown import Limits
from router.tools.python.process import Interpreter
from router.tools.types import ToolResult
from tests.router.tools.python.conftest import needs_lock

pytestmark = needs_lock
LONG_S = 60.0


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Interpreter]:
    interpreter = await Interpreter.start(Limits(), 10_000)
    yield interpreter
    await interpreter.close()


@pytest.fixture
async def fresh() -> AsyncIterator[Interpreter]:
    interpreter = await Interpreter.start(Limits(folder=4 << 20), 1000)
    yield interpreter
    await interpreter.close()


async def _printed(interpreter: Interpreter, code: str) -> str:
    result = await interpreter.run(code, LONG_S)
    assert not result.error, result.text
    return result.text


async def test_variables_stay_and_the_last_expression_is_shown(shared: Interpreter) -> None:
    assert await _printed(shared, "kept = 20\nprint('set')\nkept + 1") == "set\n21\n"
    assert await _printed(shared, "kept + 2") == "22\n"
    assert await _printed(shared, "None") == ""
    assert await _printed(shared, "kept = 1") == ""
    assert await _printed(shared, "") == ""


async def test_tracebacks_show_the_code_and_nothing_of_ours(shared: Interpreter) -> None:
    text = await _printed(shared, "def halve(x):\n    return x / 0\n\nhalve(3)")
    assert "return x / 0" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert "interpreter.py" not in text
    assert "SyntaxError" in await _printed(shared, "!pip install x")
    assert "SystemExit: 3" in await _printed(shared, "import sys; sys.exit(3)")


@pytest.mark.parametrize(
    "code",
    [
        "import numpy; int(numpy.arange(5).sum())",
        "import asyncio\nasync def ten():\n    await asyncio.sleep(0.001)\n    return 10\nasyncio.run(ten())",
        "import threading\nfound = []\nt = threading.Thread(target=found.append, args=(10,))\nt.start(); t.join(); found[0]",
        "import tempfile\nfile = tempfile.TemporaryFile('w+')\nfile.write('10'); file.seek(0); int(file.read())",
        "import shutil\nopen('a', 'w').write('10'); shutil.copy('a', 'b'); int(open('b').read())",
        "import sqlite3\nsqlite3.connect('x.db').execute('select 10').fetchone()[0]",
        "import os\nos.makedirs('c/d'); os.rename('c', 'e'); 10 * len(os.listdir('e'))",
        "import datetime, zoneinfo\ndatetime.datetime(2026, 1, 1, 9, tzinfo=zoneinfo.ZoneInfo('UTC')).hour + 1",
    ],
)
async def test_what_calculations_need_works(shared: Interpreter, code: str) -> None:
    assert await _printed(shared, code) == "10\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import socket; socket.socket()", "PermissionError"),
        ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')", "URLError"),
        ("import os; os.fork()", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("import os; os.execv('/bin/true', ['true'])", "PermissionError"),
        ("import os; os.kill(os.getppid(), 0)", "PermissionError"),
        ("import os; os.kill(1, 0)", "PermissionError"),
        ("open('/etc/passwd').read()", "PermissionError"),
        ("open('/proc/self/environ').read()", "PermissionError"),
        ("import os; os.listdir('/')", "PermissionError"),
        ("import os; os.open('/dev/mem', os.O_RDONLY)", "Error"),
        ("open('/tmp/escaped', 'w')", "PermissionError"),
        ("import os; os.symlink('/etc/passwd', 'link')", "PermissionError"),
        ("import os; os.link('/etc/passwd', 'link')", "PermissionError"),
        ("import os; os.mkfifo('fifo')", "PermissionError"),
        ("import os; os.truncate('/etc/hostname', 0)", "PermissionError"),
        ("import os; os.setuid(0)", "PermissionError"),
        ("import os; os.chroot('.')", "PermissionError"),
        ("import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))", "PermissionError"),
        ("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "Error"),
        ("import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, 1)", "PermissionError"),
        ("import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.unshare(0x10000000)\n1 / ctypes.get_errno()", "1.0"),
        ("bytearray(1 << 30)", "MemoryError"),
        (
            "import os\ntry:\n    open('big', 'wb').write(bytes(65 << 20))\nfinally:\n    os.remove('big')",
            "OSError: [Errno 27]",
        ),
        ("[open('many') for i in range(100)] if open('many', 'w') else 0", "OSError: [Errno 24]"),
    ],
)
async def test_what_reaches_further_is_refused(shared: Interpreter, code: str, error: str) -> None:
    assert error in await _printed(shared, code)


async def test_a_server_on_loopback_is_out_of_reach(shared: Interpreter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert "PermissionError" in await _printed(shared, code)


async def test_modes_of_the_hosts_files_do_not_change(shared: Interpreter) -> None:
    mode = os.stat(os.__file__).st_mode
    assert await _printed(shared, "import os; os.chmod(os.__file__, 0)") == ""
    assert os.stat(os.__file__).st_mode == mode


async def test_it_knows_nothing_of_the_environment(shared: Interpreter) -> None:
    assert "PATH" not in await _printed(shared, "import os; sorted(os.environ)")


async def _ended(interpreter: Interpreter, code: str, timeout_s: float = LONG_S) -> ToolResult:
    result = await interpreter.run(code, timeout_s)
    assert result.error
    assert interpreter.broken
    return result


async def test_what_takes_too_long_is_ended_and_what_it_printed_is_kept(fresh: Interpreter) -> None:
    await _printed(fresh, "import time")
    result = await _ended(fresh, "print('so far', flush=True)\ntime.sleep(60)", 0.3)
    assert result.text.startswith("so far\n[it took longer than 0.3 seconds")


async def test_what_ends_the_process_is_told(fresh: Interpreter) -> None:
    assert (await _ended(fresh, "import os; os.write(1, b'bye'); os._exit(0)")).text.startswith("bye\n[it ended the process")


async def test_many_files_end_it(fresh: Interpreter) -> None:
    code = "for i in range(10**6):\n    open(str(i), 'w').close()"
    assert "its files took more than" in (await _ended(fresh, code)).text


async def test_full_files_end_it(fresh: Interpreter) -> None:
    code = "import time\nfor i in range(3):\n    open(str(i), 'wb').write(bytes(2 << 20))\ntime.sleep(60)"
    assert "its files took more than" in (await _ended(fresh, code)).text


@pytest.mark.parametrize(
    "code",
    [
        "for i in range(3):\n    open(str(i), 'wb').write(bytes(2 << 20))",  # and ends before anybody looks again
        "import os\nfor i in range(3):\n    f = os.open('x', 66)\n    os.write(f, bytes(2 << 20))\n    os.remove('x')",
        "import mmap, os\nf = os.open('x', 66)\nos.write(f, bytes(4096))\nm = mmap.mmap(f, 4096)\nos.close(f)\nos.remove('x')",
        "import os\nfor i in range(1900):\n    os.mkdir('d')\n    os.chdir('d')",
        "import os\nfor i in range(17):\n    os.mkdir('d' * 255)\n    os.chdir('d' * 255)\nopen('x', 'w')",
    ],
)
async def test_files_out_of_sight_end_it(fresh: Interpreter, code: str) -> None:
    folder = (await _printed(fresh, "import os; print(os.getcwd())")).strip()
    assert "its files" in (await _ended(fresh, code)).text
    await fresh.close()
    assert os.path.basename(folder) not in os.listdir(tempfile.gettempdir())


async def test_a_folder_that_its_owner_may_not_list_is_removed(fresh: Interpreter) -> None:
    folder = (await _printed(fresh, "import os; print(os.getcwd())")).strip()
    await fresh.run("os.mkdir('d', 0o300); os.mkdir('d/e', 0); open('d/x', 'w')", LONG_S)
    await fresh.close()
    assert os.path.basename(folder) not in os.listdir(tempfile.gettempdir())


async def test_threads_that_a_cell_leaves_behind_stand_still(fresh: Interpreter) -> None:
    code = """import threading
def count():
    global n
    while True: n += 1
n = 0
threading.Thread(target=count).start()
import os; os.getpid()"""
    pid = int(await _printed(fresh, code))
    for _ in range(100):
        if _state(pid) == "T":
            break
        await asyncio.sleep(0.01)
    assert _state(pid) == "T"
    before = int(await _printed(fresh, "n"))
    assert int(await _printed(fresh, "import time; time.sleep(0.05); n")) > before


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


async def test_long_outputs_are_cut_in_the_middle(fresh: Interpreter) -> None:
    text = await _printed(fresh, "print('a' * 500_000 + 'b')")
    assert len(text) < 1100
    assert text.startswith("aaa")
    assert text.endswith("ab\n")


async def test_closing_leaves_nothing(fresh: Interpreter) -> None:
    folder = (await _printed(fresh, "import os; print(os.getcwd())")).strip()
    pid = int(await _printed(fresh, "os.getpid()"))
    await fresh.close()
    with pytest.raises(FileNotFoundError):
        os.listdir(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_cancelling_a_cell_does_not_leave_it_behind(fresh: Interpreter) -> None:
    running = asyncio.ensure_future(fresh.run("while True: pass", LONG_S))
    await asyncio.wait({running}, timeout=0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert fresh.broken
