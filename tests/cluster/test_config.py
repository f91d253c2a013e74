"""Flags and YAML: what is refused, and how."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import CHECKS, ServeConfig, load, parse_bytes
from ossia.common.errors import UserError


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "ossia.yaml"
    file.write_text(text)
    return file


def test_every_field_has_a_check_and_a_default_that_passes_it() -> None:
    defaults = ServeConfig()
    assert set(vars(defaults)) == set(CHECKS)
    for name, value in vars(defaults).items():
        assert value is None or value == () or CHECKS[name](value) == value


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "replicas: 3\nserved-model-name: [a, b]\nkv-memory: 2GiB\ngrace: 5\nmodel: openai/gpt-oss-20b\n")
    config = load({"replicas": 1, "ranks": None}, file)
    assert config == ServeConfig(
        model="openai/gpt-oss-20b", replicas=1, served_model_name=("a", "b"), kv_memory=2 << 30, grace=5.0
    )


@pytest.mark.parametrize("text", ["today", "none", "2025-06-28", '"2025-06-28"'])
def test_a_date_is_one_in_quotes_or_without(tmp_path: Path, text: str) -> None:
    assert load({}, written(tmp_path, f"date: {text}\n")).date == text.strip('"')


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load({}, written(tmp_path, "# nothing\n")) == ServeConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ranks: 2\nreplica: 3\n", " line 2: unknown key 'replica'; did you mean 'replicas'?"),
        ("max_context: 3\n", " line 1: unknown key 'max_context'; did you mean 'max-context'?"),
        ("zzz: 3\n", " line 1: unknown key 'zzz'; known keys: model, replicas, ranks, experts,"),
        ("port: 1\nport: 2\n", " line 2: 'port' is there twice"),
        ("\nreplicas: two\n", " line 2: replicas must be a whole number of at least 1, not 'two'"),
        ("replicas: true\n", " line 1: replicas must be a whole number of at least 1, not True"),
        ("replicas: 0\n", "must be a whole number of at least 1, not 0"),
        ("port: 65536\n", "port must be a whole number from 0 to 65535, not 65536"),
        ("experts: dp\n", "experts must be ep or tp, not 'dp'"),
        ("deterministic: 1\n", "deterministic must be true or false, not 1"),
        ("unpack-experts: 1\n", "unpack-experts must be true or false, not 1"),
        ("kv-memory: 2 giraffes\n", "kv-memory must be a size such as 512MiB or 4GiB, not '2 giraffes'"),
        ("kv-memory: 0\n", "must be more than 0"),
        ("date: tomorrow\n", "date must be today, none or a date such as 2025-06-28, not 'tomorrow'"),
        ("grace: -1\n", "grace must be a number of seconds, 0 or more, not -1"),
        ("retention-days: 0\n", "retention-days must be a number of days above 0, not 0"),
        ("collective-timeout: 0\n", "collective-timeout must be a number of seconds above 0, not 0"),
        ("placement: spread\n", "placement must be strict-pack or pack, not 'spread'"),
        ("database: 1\n", "database must be a non-empty text, not 1"),
        ("name: ../etc\n", "name must be up to 40 small letters, digits and dashes, not '../etc'"),
        ("ray-address: head\n", "ray-address must be HOST:PORT of a running Ray, not 'head'"),
        ("served-model-name: [1]\n", "served-model-name must be a non-empty text"),
        ("- replicas\n", " line 1: must hold `key: value` lines"),
        ("a: [1\nb: 2\n", " line 2: not YAML"),
        ("a: !!python/object:os.system x\n", " line 1: unknown key 'a'"),
        ("? [a]\n: 3\n", " line 1: a key must be a word"),
        ("\ngrace: 2020-13-45\n", " line 2: grace: month must be in 1..12; put the value in quotes or mend it"),
        ("ranks: !!int x\n", " line 1: ranks: invalid literal for int()"),
        ("ranks: !!int ''\n", " line 1: ranks: string index out of range; put the value in quotes or mend it"),
        ("deterministic: !!bool maybe\n", " line 1: deterministic: 'maybe'; put the value in quotes or mend it"),
        ("date: !!timestamp soon\n", " line 1: date: 'NoneType' object"),
        (f"grace: 1{'0' * 400}\n", " line 1: grace int too large to convert to float"),
        (f"kv-memory: 1{'0' * 400}\n", "kv-memory must be a size such as 512MiB or 4GiB"),
        ('host: "a\\0b"\n', "host must be a non-empty text"),
        ("ranks: \0\n", ": not YAML (unacceptable character"),
        ("ray-address: auto\n", "ray-address must be HOST:PORT of a running Ray, not 'auto'"),
        ("ray-address: a:65536\n", "ray-address must be HOST:PORT of a running Ray, not 'a:65536'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load({}, written(tmp_path, text))
    assert str(tmp_path / "ossia.yaml") in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_cannot_make_an_object(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1"):
        load({}, written(tmp_path, "model: !!python/object/apply:os.getcwd []\n"))


def test_a_mistake_in_a_flag_names_the_flag() -> None:
    with pytest.raises(UserError, match="--max-context must be a whole number of at least 1, not 0"):
        load({"max_context": 0})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read .No such file"):
        load({}, tmp_path / "none.yaml")


@given(
    st.integers(0, 2**50), st.sampled_from([("", 1), ("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30), ("GB", 10**9)])
)
def test_sizes(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number}{unit[0]}") == int(float(number) * unit[1])
