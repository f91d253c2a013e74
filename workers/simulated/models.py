"""Which models can be simulated: the released ones by name, others by their config.json. No weights are looked for."""

from pathlib import Path

from ossia.common.errors import UserError
from ossia.common.vocabulary import SIZE
from workers.checkpoint.settings import read_config
from workers.model.config import ModelConfig

MODELS = {"gpt-oss-20b": ModelConfig(24, 32), "gpt-oss-120b": ModelConfig(36, 128)}
DEFAULT = "gpt-oss-20b"
OWNER = "openai/"


def find(model: str) -> ModelConfig:
    """A released model's numbers, with or without `openai/`, or those of a folder's config.json. Raises UserError."""
    name = model.removeprefix(OWNER)
    if name in MODELS:
        return MODELS[name]
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise UserError(f"{model}: simulated are {', '.join(MODELS)}, or the model of a folder with a config.json")
    config, _ = read_config(folder)
    if config.vocab_size != SIZE:
        raise UserError(f"{folder}: {config.vocab_size} token ids; simulated are models with the {SIZE} of o200k_harmony")
    return config


def names(model: str) -> tuple[str, ...]:
    """What it is served as, the preferred name first."""
    name = model.removeprefix(OWNER)
    return (name, OWNER + name) if name in MODELS else (Path(model).expanduser().resolve().name,)
