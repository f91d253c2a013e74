from pathlib import Path

import psutil

from cluster.memory import available


def _cgroup(folder: Path, limit: str, used: int, inactive: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")
    return folder


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    assert available(_cgroup(tmp_path, "1000000", 300_000, 100_000)) == 800_000


def test_a_full_container_has_nothing(tmp_path: Path) -> None:
    assert available(_cgroup(tmp_path, "1000", 5000, 0)) == 0


def test_without_a_limit_the_host_counts(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    assert 0 < available(tmp_path) <= total
    assert 0 < available(_cgroup(tmp_path, "max", 5, 5)) <= total
    assert available(_cgroup(tmp_path, str(2 * total), 0, 0)) <= total
