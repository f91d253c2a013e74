import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.common import vocabulary
from ossia.common.vocabulary import FIRST_SPECIAL, RETURN, SIZE, encode
from tests.workers.grammar.walks import ids
from workers.grammar import masks


@given(st.lists(st.integers(0, SIZE - 1), unique=True))
def test_a_mask_allows_its_ids_alone(tokens: list[int]) -> None:
    assert ids(masks.only(*tokens)) == sorted(tokens)


@given(
    st.text() | st.sampled_from(["<|end|>", " to=functions.f", '{"a": [1, 2.5]}\n\n', "don't  STOP 12345", "日本語🙂\r\n/x"])
)
def test_the_library_cuts_text_as_the_vocabulary_does(text: str) -> None:
    assert masks.tokenizer().tokenize_str(text) == encode(text)


def test_the_library_knows_every_token() -> None:
    tokenizer = masks.tokenizer()
    table = vocabulary.load().table
    assert (tokenizer.vocab_size, tokenizer.eos_token) == (SIZE, RETURN)
    for token in (*range(0, FIRST_SPECIAL, 97), FIRST_SPECIAL - 1):
        assert tokenizer.decode_bytes([token]) == table[token]
    assert all(tokenizer.is_special_token(token) == (token >= FIRST_SPECIAL) for token in range(FIRST_SPECIAL - 50, SIZE))


@given(st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), st.integers(1, 3))
def test_a_character_begun_can_be_completed(character: str, cut: int) -> None:
    data = character.encode()
    begun = data[: min(cut, len(data) - 1)]
    assert masks.unfinished(b"abc\xff\x80" + begun) == begun
    assert masks.unfinished(data) == b""
    table = vocabulary.load().table
    completions = masks.completions(begun)
    assert data[len(begun) : len(begun) + 1] in [table[token] for token in completions]
    for token in completions:
        assert len((begun + table[token]).decode("utf-8", "replace")) == 1


@pytest.mark.parametrize("package", ["workers.grammar", "workers.engine.engine"])
def test_no_torch(package: str) -> None:
    """Neither by itself nor through a library; the engine has nothing of what grammars need."""
    code = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
    assert not loaded & {"torch", "transformers", "xgrammar", "ray", "grpc"}
    if package == "workers.engine.engine":
        assert not loaded & {"llguidance", "openai_harmony"}
