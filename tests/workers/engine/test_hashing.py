"""Names of blocks are those that the protocol publishes."""

import struct
from hashlib import blake2b

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.hashing import Chain

TURN = 7
tokens = st.lists(st.integers(0, 2**31 - 1), max_size=40)


def chain(sequence: list[int], salt: bytes = b"", block_size: int = 4) -> Chain:
    made = Chain(salt, block_size, TURN)
    made.extend(np.array(sequence, np.int32), 0)
    return made


@given(tokens, st.binary(max_size=20), st.integers(1, 9))
def test_a_name_is_the_hash_of_the_name_before_it_and_of_the_blocks_tokens(sequence: list[int], salt: bytes, size: int) -> None:
    name, names = blake2b(salt, digest_size=16).digest(), []
    for at in range(0, len(sequence) - size + 1, size):
        block = struct.pack(f"<{size}I", *sequence[at : at + size])
        name = blake2b(name + block, digest_size=16).digest()
        names.append(name)
    assert chain(sequence, salt, size).names == names


@given(tokens, st.integers(0, 40))
def test_it_grows_by_any_pieces(sequence: list[int], cut: int) -> None:
    pieces = Chain(b"", 4, TURN)
    array = np.array(sequence, np.int32)
    pieces.extend(array[:cut], 0)
    pieces.extend(array, min(cut, len(sequence)))
    assert (pieces.names, pieces.marks) == (chain(sequence).names, chain(sequence).marks)


def test_messages_mark_the_blocks_that_they_begin_in() -> None:
    assert chain([TURN, 1, 2, 3, 4, 5, 6, 8, TURN, TURN, 1]).marks == {0, 2}


@given(tokens, tokens, tokens)
def test_sequences_share_blocks_up_to_where_they_part(head: list[int], one: list[int], other: list[int]) -> None:
    common = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert chain(head + one).shared(chain(head + other)) == (len(head) + common) // 4
    assert chain(head + one).shared(chain(head + other, b"salt")) == 0
