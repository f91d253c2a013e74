import socket
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.common import vocabulary
from ossia.common.errors import UserError
from ossia.common.vocabulary import FIRST_SPECIAL, SIZE, Detokenizer, Vocabulary
from tests.router.harmony.streams import RELAXED

SPECIAL = [vocabulary.token_bytes(token).decode() for token in range(FIRST_SPECIAL, SIZE)]
IDS = st.integers(0, SIZE + 10) | st.integers(FIRST_SPECIAL - 2, FIRST_SPECIAL + 20)


def test_every_special_token_is_encoded_as_text() -> None:
    for spelled in SPECIAL:
        for text in (spelled, f"a{spelled}b", f" {spelled}\n", spelled + spelled, spelled[1:], f"<{spelled}>"):
            tokens = vocabulary.encode(text)
            assert max(tokens) < FIRST_SPECIAL
            assert vocabulary.decode(tokens) == text


@RELAXED
@given(st.text() | st.lists(st.sampled_from(SPECIAL[:20]) | st.text(max_size=3)).map("".join))
def test_text_survives(text: str) -> None:
    tokens = vocabulary.encode(text)
    assert all(token < FIRST_SPECIAL for token in tokens)
    assert vocabulary.decode(tokens) == text


def test_lone_surrogates_become_replacement_characters() -> None:
    assert vocabulary.decode(vocabulary.encode("a\ud800b")) == "a\ufffdb"


@RELAXED
@given(st.text(max_size=500))
def test_equals_the_library(text: str) -> None:
    assert vocabulary.encode(text) == vocabulary.load().encoding.encode(text, disallowed_special=())


@RELAXED
@given(st.text(st.sampled_from("aÉ的々\u0301²1１_ '\u2019.,-\n\r\t\u3000、。，？…—/!s"), min_size=10, max_size=200))
def test_pieces_change_nothing(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "_PIECE", 3)
        assert vocabulary.encode(text) == vocabulary.load().encoding.encode(text)


@pytest.mark.parametrize(
    "text", ["Words, and more words; 12 of them.\n", "话，还有更多的话；共十二句。", "言葉、もっと「言葉」", "0a63ff"]
)
def test_long_text_is_encoded_in_pieces(text: str) -> None:
    lengths = [len(piece) for piece in vocabulary._pieces(text * 10_000)]
    assert max(lengths) < 1.1 * vocabulary._PIECE


@pytest.mark.parametrize("unit", [". ", "a'", "7"])
def test_what_has_no_place_to_cut_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    monkeypatch.setattr(vocabulary, "_MOST", 2 * vocabulary._PIECE)
    text = unit * 100_000
    assert max(map(len, vocabulary._pieces(text))) <= 2 * vocabulary._PIECE
    assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("unit", ["a", "aB", "é", "的", "a\u0301", "—", "_", "!/\r\n", "\r\n/", " ", " \n", "🙂"])
def test_long_runs_are_cut(unit: str) -> None:
    """Each of these takes the library minutes in one piece."""
    text = f"before {unit * 50_000} after"
    assert vocabulary.decode(vocabulary.encode(text)) == text
    short = (unit * 1023)[:1023]
    assert vocabulary.encode(short) == vocabulary.load().encoding.encode(short)


def test_token_bytes_need_not_be_text() -> None:
    tokens = vocabulary.encode("🙂‍↔️")
    assert b"".join(map(vocabulary.token_bytes, tokens)).decode() == "🙂‍↔️"
    broken = [token for token in range(FIRST_SPECIAL) if "\ufffd" in vocabulary.token_bytes(token).decode("utf-8", "replace")]
    assert len(broken) > 1000


def test_specials_are_spelled_out() -> None:
    tokens = [vocabulary.START, *vocabulary.encode("assistant"), vocabulary.CHANNEL, vocabulary.RETURN, 200000, SIZE + 5]
    assert vocabulary.decode(tokens) == "<|start|>assistant<|channel|><|return|><|reserved_200000|>\ufffd"


@RELAXED
@given(st.lists(IDS), st.data())
def test_detokenizer_equals_decoding_at_once(tokens: list[int], data: st.DataObject) -> None:
    detokenizer = Detokenizer()
    text, rest = "", tokens
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        text += detokenizer.feed(rest[:size])
        rest = rest[size:]
    assert text + detokenizer.close() == vocabulary.decode(tokens)


@RELAXED
@given(st.text(st.characters(codec="utf-8", min_codepoint=0x80)))
def test_detokenizer_never_splits_a_character(text: str) -> None:
    detokenizer = Detokenizer()
    pieces = [detokenizer.feed([token]) for token in vocabulary.encode(text)]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text
    assert detokenizer.close() == ""


def test_another_owner_of_the_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"openai_harmony": ["oss-harmony", "openai-harmony"]})
    with pytest.raises(UserError, match="openai-harmony, oss-harmony"):
        vocabulary.load.__wrapped__()


@pytest.mark.parametrize("token", [0, 12_345, FIRST_SPECIAL - 1, vocabulary.CALL, SIZE - 1])
def test_a_damaged_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch, token: int) -> None:
    """One id with another's bytes is enough."""
    damaged = Vocabulary()
    damaged.table = (*damaged.table[:token], damaged.table[1], *damaged.table[token + 1 :])
    monkeypatch.setattr(vocabulary, "Vocabulary", lambda: damaged)
    with pytest.raises(UserError, match="install the pinned version again"):
        vocabulary.load.__wrapped__()


def test_loads_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)
    assert vocabulary.load.__wrapped__().encode("Hello") == [13225]
