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

from router.harmony import vocabulary
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
    account acid action active address adult age agent air alarm album angle animal apple area arm army art article atom
    author average baby back bag ball band bank bar base basic bath battle bean bear beautiful bed bell best big bill bird
    birth black blank block blood blue board boat body bold bone book border bottom box boy brain branch brand bread break
    bridge brief bright broken brown brush budget building bus business busy button cake calendar camera camp capital car
    carbon card care case cash castle cat cause cell center central chain chair chance change channel chapter charge cheap
    check chief child choice church circle city class clean clear client clinic clock close cloud club coach coal coat code
    coffee cold color column comfort common company complete computer contract control cook cookie cool copy corn corner
    correct cost count country course court cover cow cream credit crew crop cross culture cup current curve custom cycle
    daily dance danger dark data date day deal deep degree delivery design desk detail device diamond digital direct dish
    distance doctor document dog door double dragon dream dress drink driver dry duck dust early earth east easy edge egg
    electric empty end energy engine entry equal error event evil exact example exit expert extra eye fabric face fact
    factory fair family fan farm fashion fast father feature field fight figure file film final finger fire first fish flag
    flat flight floor flow flower fluid focus folder food foot force foreign forest fork form formal forward frame free
    fresh friend front fruit fuel full future game garage garden gas gate general gift girl glass global goal gold good
    grain grand graph grass great green ground group growth guard guest guide habit hair half hall hand happy hard hat head
    health heart heat heavy height hero high hill history holiday home hope horse hospital hot hotel hour house human hunt
    ice idea image index iron item job joint journal judge juice jump key kid kind king knife label lake lamp land language
    large laser late law layer lead leader leaf league leg legal length lesson letter level library license life light limit
    line lion list little local location lock logic long loop lost love low machine magic mail main major manual map market
    master match material meal media medical meeting member memory menu message metal meter method middle milk mind mine
    minor minute mirror mission mobile model modern moment money monster month moon mother motion motor mouse mouth movie
    music nation native nature neck needle net network neutral news nice night noise normal north nose note notice number
    object office oil old open option orange order organ outer owner package page paint panel paper parent park part partner
    party past path patient pattern peace pen people perfect period phone photo phrase picture piece pilot pine pink pipe
    place plain plan plane planet plant plastic plate play player plot point policy pool poor port post power prime print
    private product profile project proof proper public pump pure purple queen question quick quiet race radio rail rain
    random range rapid rare ratio raw real record red region regular rent report rest result rice rich ride right ring river
    road robot rock role roof room root rope rose rough round route row rule safe salt sample sand scale scene school
    science scope score screen script sea season seat second secret section secure seed server service shadow shape sharp
    sheet shell shift ship shirt shoe shop short show side sign signal silent silver simple single site size skill skin sky
    sleep slow small smart smooth snow social soft soil solar solid song sound source south space special speech speed sport
    spot spring square stable staff stage stairs standard star state station steam steel step stick stock stone store storm
    story straight stream street strong student studio style summer sun super surface sweet switch symbol system table tail
    talk tank target task tax tea teacher team tent test text theme thin ticket time tiny title tool top tour tower town toy
    track trade traffic trail train travel tree trial truck true trust truth tube turn type union unique unit user value van
    vector version video view virus visit visual voice volume wagon wall war warm watch water wave weak weather web week
    weight west wet wheel white whole wide wife wild wind window wine wing winner winter wire wise wolf woman wonder wood
    word work worker world writer wrong yard year yellow young zero zone
    """
)
"""Ordinary nouns and adjectives. Each is one token at the start and behind a space."""

ENGLISH = 30_000
"""So many of the most frequent words tell which pieces English is made of."""
CAPITALS, SMALL, REST, UNDERSCORED = 500, 500, 700, 200
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
        what = rng.choice(_underscored_common()) if known else _word(rng, pieces().underscored, _is_underscored)
        return f"{rng.choice(VERBS)}_{what}"

    return draw(split, make)


def common(rng: random.Random) -> str:
    """An ordinary English word, of one token."""
    return rng.choice(COMMON)


def foreign(rng: random.Random) -> str:
    """One to four words of another script, or rare ones: nothing but tokens (and spaces) that are never told apart."""
    while True:
        text = "".join(rng.choices(rng.choice(_foreign_tokens()), k=rng.randint(1, 4))).strip()
        if all(is_foreign(token) for form in (text, " " + text) for token in vocabulary.encode(form)):
            return text


def is_foreign(token: int) -> bool:
    """Whether this id never gets a row of its own: part of a character, of another script than Latin, or rare."""
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
def _underscored_common() -> tuple[str, ...]:
    return tuple(word for word in COMMON if "_" + word in tokens())


@functools.cache
def _foreign_ids() -> frozenset[int]:
    table = vocabulary.load().table[: vocabulary.FIRST_SPECIAL]
    rare = {token for group in _rare_words() for token in (tokens()[group], tokens()[group[1:]])}
    return frozenset(token for token, text in enumerate(table) if _is_other_script(text)) | rare


def _is_other_script(text: bytes) -> bool:
    if text.isascii():
        return False
    letters = text.decode("utf-8", "replace")
    return any(letter == "\N{REPLACEMENT CHARACTER}" or _is_other_letter(letter) for letter in letters)


def _is_other_letter(letter: str) -> bool:
    return letter.isalpha() and "LATIN" not in unicodedata.name(letter, "")


@functools.cache
def _foreign_tokens() -> tuple[tuple[str, ...], ...]:
    """Groups of tokens that make foreign text: one for each script, and rare words."""
    scripts: dict[str, list[str]] = {script: [] for script in ("CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "CJK")}
    for text in vocabulary.load().table[: vocabulary.FIRST_SPECIAL]:
        letters = text.decode("utf-8", "replace")
        script = unicodedata.name(letters[-1:], "").split(" ")[0] if letters.strip().isalpha() else ""
        if script in scripts and _is_other_script(text):
            scripts[script].append(letters)
    return (*(tuple(found) for found in scripts.values()), _rare_words())


@functools.cache
def _rare_words() -> tuple[str, ...]:
    """Long words of one token, with and without a space, that are hardly English."""
    return tuple(
        text
        for text in tokens()
        if len(text) > 7 and text[0] == " " and text[1:] in tokens() and text.islower() and text[1:] not in english()
    )
