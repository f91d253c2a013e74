"""The words that tasks are made of: invented names, nouns and functions of tokens that the model knows, and foreign text.

The first piece of an invented word is one token behind a space and another without; the other pieces are the same tokens
anywhere, so that a word is copied by copying its pieces. Pieces and words are found in `wordfreq`'s list of English.
"""

import functools
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ossia.common import vocabulary
from training.split import draw
from training.task import Split


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LETTERS = tuple(" " + letter for letter in "abcdefghijklmnopqrstuvwxyz")

VERBS = _list(
    """
    add book build buy call cancel change check clear close compare convert copy count create delete describe download draw
    edit fetch fill find get join list load lock log make mark measure merge move open order pack pay plan play post print
    read record remove rename report reserve reset run save search select sell send set show sort start stop submit test
    track translate turn update use validate wait write
    """
)
"""What functions do. Each is one token at the start, behind a space and behind a dot."""

COMMON = _list(
    """
    account action active address age agent air album animal area army art article author average baby ball band bank bar
    base basic battle beautiful bed bill black block blue board body book bottom box boy brain brand break broken brown
    budget building bus business camera capital car card care case cash cause cell center central chance change channel
    charge check chief child choice church city class clean clear close club coach code coffee cold color common company
    complete computer contract control cool cost count country course court cover credit cross culture cup current daily
    dance dark data date day deal deep degree design digital direct distance doctor dog door double dream drink early earth
    east easy end energy engine event example extra eye face fact fair family fan fashion fast father feature field fight
    figure film final fire first fish flight floor focus food foot force foreign form forward free fresh friend front full
    future game gas general girl glass global goal gold grand great green ground group growth hair half hall hand happy hard
    head health heart heat heavy hill history home hope hospital hot hotel hour house human ice idea job judge key kid kind
    king lake land language large law leader league letter level library life light line list location love machine market
    master match media meeting member memory message metal middle mind mine minute mission mobile model modern moment money
    month mother mouth movie music nation nature network news nice night normal north note notice number office oil open
    order owner page paper park part partner party peace perfect period phone photo picture piece place plan plant play
    player point policy poor post power prime private product project public queen question quick race radio range real
    record red region regular rest result rich ride right ring river road rock role room rose round rule safe scale scene
    school science score screen sea season seat secret ship shop short show side sign silver simple site size skin sleep
    slow small smart song sound source south space special speech speed spot spring square staff stage star state station
    step stock stone store story straight street strong student style summer sun super surface sweet table talk tax teacher
    team test text title top tour town track trade traffic train travel tree trial true trust truth turn union video view
    visit voice wall watch water weather week weight west white whole wide wife wild wind winter woman wonder world young
    """
)
"""Ordinary nouns and adjectives. Each is one token at the start and behind a space."""

THINGS = _list(
    """
    account address album alarm article balance bank bill book box budget calendar camera car card case center channel city
    class clock code color comment company contract country course credit customer date day delivery device distance
    document email event file folder game gate group height history home house image index invoice item job key label
    language length letter level library light link list location map market match media member menu message meter model
    money month movie music name news note number order package page party password path person phone photo picture place
    plan player point policy price product profile project question radio range rate record report result room route rule
    sample school score section sensor server session shape sheet shop sign site size song sound source speed staff state
    station status step stock store story student subject table task tax team temperature text ticket time timer title token
    topic track train transaction trip url user value version video visit voice volume water weather week weight window word
    year zone
    """
)
"""What functions do it to. Each is one token behind `_`."""

ENGLISH = 30_000
"""So many of the most frequent words tell which pieces English is made of."""
CAPITALS, SMALL, REST, UNDERSCORED = 300, 300, 500, 80
"""How many first pieces of names and nouns there are, how many other pieces, and how many first pieces behind `_`."""

_RUDE = frozenset(_list("anal ass cock cum dick fag fuck gay jew kill nazi nig porn pus rap rape sex shit slut tit tits whore"))
_SHORT = frozenset(
    _list(
        """
        about after again all also am an and any are as at be because been but by can could did do does down each even for
        from had has have he her here him his how if in into is it its just like may me more most my no non none not now of
        off oh on once one only or other our out over per she so some such than that the their them then there these they
        this those to too true two under until up us very was we well were what when where which while who why will with
        would yes yet you your
        """
    )
)
"""No invented words: sentences are made of them."""


@dataclass(frozen=True)
class Pieces:
    """What invented words are made of, by falling frequency."""

    capitals: tuple[str, ...]
    small: tuple[str, ...]
    underscored: tuple[str, ...]
    rest: tuple[str, ...]


def name(rng: random.Random, split: Split) -> str:
    """An invented proper name, "Plovdan", of one to three pieces."""
    return draw(split, lambda: _word(rng, pieces().capitals))


def noun(rng: random.Random, split: Split) -> str:
    """An invented lower-case word, "brimlo", of one to three pieces."""
    return draw(split, lambda: _word(rng, pieces().small))


def function(rng: random.Random, split: Split) -> str:
    """An invented function, "get_brimlo": one of `VERBS`, and an ordinary word or an invented one behind `_`."""

    def make() -> str:
        known = rng.random() < 0.5
        what = rng.choice(THINGS) if known else _word(rng, pieces().underscored, _is_underscored)
        return f"{rng.choice(VERBS)}_{what}"

    return draw(split, make)


def common(rng: random.Random) -> str:
    """An ordinary English word, of one token."""
    return rng.choice(COMMON)


def foreign(rng: random.Random) -> str:
    """Text of another script, or with accents, in one to four tokens, none of which is ever told apart."""
    while True:
        text = "".join(rng.choices(rng.choice(_foreign_tokens()), k=rng.randint(1, 4))).strip()
        if all(is_foreign(token) for form in (text, " " + text) for token in vocabulary.encode(form)):
            return text


def is_foreign(token: int) -> bool:
    """Whether this id never gets a row of its own: part of a character, or letters beyond ASCII."""
    return token in _foreign_ids()


@functools.cache
def tokens() -> dict[str, int]:
    """Every token of ASCII letters, with nothing or one of space, dot, underscore and quote before them: its text and id."""
    fits = re.compile(rb'[ ._"]?[A-Za-z]+')
    table = vocabulary.load().table[: vocabulary.FIRST_SPECIAL]
    return {text.decode(): token for token, text in enumerate(table) if fits.fullmatch(text)}


@functools.cache
def english() -> dict[str, float]:
    """The most frequent English words of ASCII letters, and the share of text that each makes up."""
    import wordfreq

    words = [word for word in wordfreq.top_n_list("en", ENGLISH) if word.isascii() and word.isalpha()]
    return {word: wordfreq.word_frequency(word, "en") for word in words}


@functools.cache
def pieces() -> Pieces:
    """The pieces that English words of several tokens have most often; takes about a second, once."""
    first: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    rest: Counter[str] = Counter()
    for word, share in english().items():
        for form in (word, word.capitalize()):
            begin, *others = _texts(" " + form)
            if others:
                first[form.istitle()][begin[1:]] += share**0.5  # of which rare words have their part
                rest.update(dict.fromkeys(others, share**0.5))
    small = _most(first[False], lambda piece: _starts(piece) and "_" + piece in tokens())
    return Pieces(
        capitals=tuple(_most(first[True], _starts)[:CAPITALS]),
        small=tuple(_most(first[False], _starts)[:SMALL]),
        underscored=tuple(small[:UNDERSCORED]),
        rest=tuple(_most(rest, lambda piece: _is_short(piece) and piece in tokens())[:REST]),
    )


def _most(counted: Counter[str], fits: Callable[[str], bool]) -> list[str]:
    return [piece for piece, _ in counted.most_common() if fits(piece)]


def _starts(piece: str) -> bool:
    """Whether a word may start with this piece: one token with and without a space, and no part of another behind `"`."""
    return _is_short(piece) and piece in tokens() and " " + piece in tokens() and '"' + piece not in tokens()


def _is_short(piece: str) -> bool:
    return 2 <= len(piece) <= 4 and piece.lower() not in _RUDE


def _texts(text: str) -> list[str]:
    table = vocabulary.load().table
    return [table[token].decode() for token in vocabulary.encode(text)]


def _word(rng: random.Random, first: tuple[str, ...], fits: Callable[[list[str]], bool] | None = None) -> str:
    while True:
        chosen = [rng.choice(first), *rng.choices(pieces().rest, k=rng.choice((0, 1, 1, 1, 2, 2)))]
        word = "".join(chosen)
        if (len(chosen) > 1 or len(word) > 2) and word.lower() not in _SHORT and (fits or _is_kept)(chosen):
            return word


def _is_kept(chosen: list[str]) -> bool:
    """Whether the word is encoded to these pieces, at the start, behind a space and in quotes."""
    word, ids = "".join(chosen), [tokens()[piece] for piece in chosen]
    return (
        vocabulary.encode(word) == ids
        and vocabulary.encode(" " + word) == [tokens()[" " + chosen[0]], *ids[1:]]
        and vocabulary.encode(f'"{word}"')[1:-1] == ids
    )


def _is_underscored(chosen: list[str]) -> bool:
    return vocabulary.encode("_" + "".join(chosen)) == [tokens()["_" + chosen[0]], *[tokens()[piece] for piece in chosen[1:]]]


@functools.cache
def _foreign_ids() -> frozenset[int]:
    table = vocabulary.load().table[: vocabulary.FIRST_SPECIAL]
    return frozenset(
        token for token, text in enumerate(table) if not text.isascii() and _is_foreign(text.decode("utf-8", "replace"))
    )


def _is_foreign(text: str) -> bool:
    return any(character == "\N{REPLACEMENT CHARACTER}" or _script(character) for character in text)


@functools.cache
def _script(character: str) -> str:
    """LATIN, GREEK, CYRILLIC...; empty for ASCII and for what is no letter."""
    return unicodedata.name(character, "").split(" ")[0] if character.isalpha() and not character.isascii() else ""


@functools.cache
def _foreign_tokens() -> tuple[tuple[str, ...], ...]:
    """Groups of tokens that make foreign text: one for each of some scripts, Latin with accents among them."""
    groups: dict[str, list[str]] = {
        script: [] for script in ("CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "CJK", "LATIN")
    }
    for token in sorted(_foreign_ids()):
        text = vocabulary.load().table[token].decode("utf-8", "replace")
        script = max(map(_script, text))
        if text.strip().isalpha() and script in groups:
            groups[script].append(text)
    return tuple(tuple(group) for group in groups.values())
