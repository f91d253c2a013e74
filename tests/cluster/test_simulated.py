"""`--engine simulated` from its settings to the head's spec."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cluster import config, serve
from cluster.config import ServeConfig
from cluster.spec import HeadSpec
from ossia.common.errors import UserError
from workers.simulated import models


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSSIA_TOKEN", raising=False)


def test_it_needs_no_checkpoint_and_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = config.load({"engine": "simulated", "ranks": 4, "kv_memory": "1GiB"})
    model, runner, cache, gpus, _ = serve.prepare(asked)
    assert model.names == ("gpt-oss-20b", "openai/gpt-oss-20b")
    model_config = models.find("gpt-oss-20b")
    assert (runner.layout.ranks, runner.kv_memory, list(gpus)) == (1, 4 << 30, [])
    spans = [int(number) for number in re.findall(r"\d+", cache)]
    kinds = [model_config.is_sliding(layer) for layer in range(model_config.num_hidden_layers)]
    token_bytes = 2 * model_config.num_key_value_heads * model_config.head_dim * 2
    used = sum(token_bytes * span * kinds.count(sliding) for span, sliding in zip(spans, (False, True), strict=True))
    assert 0.99 * (4 << 30) < used <= 4 << 30, cache
    assert list(tmp_path.iterdir()) == []
    spec = serve.head_spec(asked, model, runner, gpus, tmp_path)
    assert spec.shard == "workers.simulated.shard:SimulatedShard"
    assert HeadSpec.parse(json.dumps(asdict(spec))) == spec


def test_more_devices_are_faster() -> None:
    one, eight = (serve.prepare(ServeConfig(model="gpt-oss-120b", engine="simulated", device="b200", ranks=n)) for n in (1, 8))
    assert eight.runner.costs[0] == one.runner.costs[0] / 8
    assert eight.runner.kv_memory > one.runner.kv_memory


def test_costs_are_given_by_flag_or_file(tmp_path: Path) -> None:
    file = tmp_path / "ossia.yaml"
    file.write_text("engine: simulated\ncosts: [0.01, 1e-5, 2.0e-5, 0]\n")
    assert serve.prepare(config.load({}, file)).runner.costs == (0.01, 1e-5, 2e-5, 0.0)
    assert serve.prepare(config.load({"costs": "1,2,3,4"}, file)).runner.costs == (1.0, 2.0, 3.0, 4.0)


def test_drafts_can_be_left_out() -> None:
    asked = ServeConfig(engine="simulated", no_drafts=True)
    assert not serve.prepare(asked).runner.drafts
    assert serve.prepare(replace(asked, no_drafts=False)).runner.drafts


def test_settings_that_ask_for_nothing_mean_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ossia.yaml"
    file.write_text("engine: simulated\ndeterministic: false\nunpack-experts: false\nexperts: ep\n")
    assert config.load({}, file) == ServeConfig(engine="simulated")
    file.write_text("engine: simulated\ndeterministic: true\n")
    with pytest.raises(UserError, match="--deterministic means nothing"):
        config.load({}, file)


def test_a_folder_needs_no_weights(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    found = serve.prepare(ServeConfig(model=str(tmp_path), engine="simulated"))
    assert found.model.names == (tmp_path.name,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "simulated", "dtype": "float32"}, "--dtype means nothing to --engine simulated"),
        ({"engine": "simulated", "experts": "tp"}, "--experts means nothing to --engine simulated"),
        ({"device": "H100"}, "--device means nothing to --engine torch"),
        ({"costs": "1,2,3,4", "engine": "torch"}, "--costs means nothing to --engine torch"),
        ({"engine": "vllm"}, "--engine must be torch or simulated, not 'vllm'"),
        *(
            ({"engine": "simulated", "costs": costs}, "--costs must be four numbers of seconds")
            for costs in ("1,2,3", "a,b,c,d", "-1,1,1,1", "0,0,0,0", "nan,1,1,1", "inf,1,1,1", "")
        ),
        ({"engine": "simulated", "device": "H101"}, "no device H101 is known"),
        ({"engine": "simulated", "model": "no-such-model"}, "no-such-model: simulated are"),
        ({"engine": "simulated", "kv_memory": "1MiB"}, "--kv-memory"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        serve.prepare(config.load(settings))
