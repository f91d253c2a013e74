"""Obeying a developer message: a persona, the language of greetings, a forbidden word.

Split are names and words, and the phrasings of developer and user.
"""

import random
import re
from collections.abc import Callable, Sequence
from functools import partial

from router.harmony.types import Effort, Message
from training import words
from training.kinds.phrasing import either, fill, phrase
from training.kinds.talk import GREETING, IDENTITY, OPENERS, RULES, SMALL_TALK, UNKNOWN, Steps, beyond, exchange, thoughts
from training.split import draw
from training.task import Make, Split, Task

Accepts = Callable[[str], bool]
RULED = 0.3
"""The share of developer messages that say something else too."""

ROLES = either(
    """
    pirate | robot | wizard | teacher | doctor | cook | gardener | sailor | knight | king | queen | farmer | baker | painter
    singer | dancer | writer | poet | judge | lawyer | nurse | pilot | driver | hunter | guard | soldier | clown | ghost
    dragon | cat | dog | bear | lion | horse | bird | monkey | fox | wolf | librarian | scientist | student | butler
    detective | assistant | helpful assistant | guide | coach | monk | priest | vampire | alien | barber | tailor
    witch | giant | hero
    """
)
_ADJECTIVES = either(
    """
        old | young | friendly | happy | sad | brave | tired | small | big | kind | wise | clever | lazy | polite | quiet
        proud | rich | poor | strong
        """
)
_ENDINGS = either(
    """
    Arr! | Ahoy! | Beep! | Hooray! | Amen. | Meow! | Woof! | Cheers! | Yes! | Peace. | Bravo! | Ha! | Hmm. | Indeed. | Sir.
    Over.
    """
)
_PERSONA = either(
    """
    You are {name}, {role}. | You are {name}, {role}. | Your name is {name}. You are {role}. | Act as {name}, {role}.
    Play the role of {name}, {role}. | Answer as {name}, {role}. | Pretend to be {name}, {role}. | You play {name}, {role}.
    Be {name}, {role}. | You are now {name}, {role}. | In this chat you are {name}, {role}. | Speak as {name}, {role}.
    You are {role} called {name}. | You are {role} named {name}. | From now on you are {name}, {role}.
    """
)
_NAMED = either(
    """
    Your name is {name}. | You are {name}. | You are called {name}. | Act as {name}. | Answer as {name}. | Pretend to be {name}.
    Users call you {name}. | Speak as {name}. | From now on you are {name}. | Your name is now {name}.
    """
)
_IN_ROLE = either(
    """
    You are {role}. | Act as {role}. | Play {role}. | Answer as {role}. | Pretend to be {role}. | Speak as {role}. | Be {role}.
    You are now {role}. | From now on you are {role}. | Play the role of {role}. | In this chat you are {role}.
    """
)
_STYLE = either(
    """
    End every answer with {ending} | Always end with {ending} | End each answer with: {ending}
    Always end by saying {ending} | Finish every answer with {ending} | At the end of every answer, say {ending}
    Your answers end with {ending} | Close all your answers with {ending} | Every answer must end with {ending}
    The last word of each answer is {ending} | End every answer with "{ending}" | End each answer with '{ending}'
    Always say "{ending}" at the end.
    """
)
_WHO = either(
    """
    Who are you? | What is your name? | What are you? | Tell me your name. | Introduce yourself. | Who am I talking to?
    What are you called? | Who is this? | Tell me about yourself. | Describe yourself. | What should I call you?
    And who are you? | Your name? | Who is speaking? | May I ask your name? | Who am I speaking with? | Say who you are.
    Do you have a name? | What do I call you? | Name yourself. | What do you do? | What is your job? | Who is there?
    """
)


def persona(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Says who the developer told it to be, and ends every answer as the developer told."""
    who, rule = _somebody(rng, split) if rng.random() < 0.85 else ("", "")
    ending = _ending(rng, split) if not who or rng.random() < 0.5 else ""
    if who and rng.random() < 0.75:
        asked, thought, said = phrase(rng, split, _WHO, OPENERS), f"I am {who}.", f"I am {who}."
    else:
        asked, thought, said = _other(rng, split, bool(who))
    style = fill(_rule(rng, split, _STYLE), ending=ending) if ending else ""
    answer = f"{said} {ending}".strip()
    steps = (
        f"{thought} {f'The end is {ending}' if ending else 'No end is given.'}",
        "The developer wants it like this.",
        f"So I say: {answer}",
    )
    return _task("persona", f"{rule} {style}".strip(), asked, effort, steps, answer)


def _somebody(rng: random.Random, split: Split) -> tuple[str, str]:
    """Who to be, "Brimlo, a pirate", and what the developer says of it."""
    name, role = words.name(rng, split), _role(rng)
    who, frames = rng.choice(((name, _NAMED), (role, _IN_ROLE), *((f"{name}, {role}", _PERSONA),) * 4))
    return who, fill(_rule(rng, split, frames), name=name, role=role)


def _other(rng: random.Random, split: Split, named: bool) -> tuple[str, str, str]:
    """What else may be asked: the text, the thought about it, the answer."""
    if rng.random() < 0.3:
        return beyond(rng, split), "I do not know this.", UNKNOWN
    if not named and rng.random() < 0.4:
        family, text = exchange(rng, split, IDENTITY)
        return text, f"About me: {family.topic}.", family.answer
    family, text = exchange(rng, split, SMALL_TALK)
    return text, f"Small talk: {family.topic}.", family.answer


def _role(rng: random.Random) -> str:
    role = rng.choice(ROLES) if rng.random() < 0.75 else words.common(rng)
    if rng.random() < 0.35:
        role = f"{rng.choice(_ADJECTIVES)} {role}"
    return f"{'an' if role[0] in 'aeio' else 'a'} {role}"


def _ending(rng: random.Random, split: Split) -> str:
    return rng.choice(_ENDINGS) if rng.random() < 0.5 else words.name(rng, split) + rng.choice("!!.")


LANGUAGES = {
    "French": "Bonjour",
    "German": "Guten Tag",
    "Spanish": "Hola",
    "Italian": "Ciao",
    "Dutch": "Hallo",
    "Swedish": "Hej",
    "Turkish": "Merhaba",
    "Latin": "Salve",
}
_LANGUAGE = either(
    """
    Greet in {language}. | Always greet the user in {language}. | Greet users in {language}. | Use {language} for greetings.
    When you greet, use {language}. | Your greetings are in {language}. | All greetings must be in {language}.
    Say hello in {language}. | Welcome the user in {language}. | Speak {language} when you greet.
    Greet people in {language}. | Answer greetings in {language}. | If the user greets you, greet back in {language}.
    Greetings: {language}. | Every greeting is in {language}. | You greet in {language}. | Write greetings in {language}.
    Hello is said in {language}.
    """
)
_GREETS = either(
    """
    Hi! | Hello! | Hey! | Good morning! | Good day! | Hello there! | Hi there! | Good evening! | Greetings!
    """
)
_GREETS_NAMED = either(
    """
    Hi, I am {name}. | Hello, my name is {name}. | Hey, it is {name}. | Good morning, {name} here. | I'm {name}, hi!
    This is {name}. Hello! | Greet {name}. | Say hello to {name}. | Please greet {name}. | Hello! {name} is my name.
    My name is {name}. | I am {name}. | Greet my friend {name}. | Hi, {name} is here. | Say hi to {name}. | Welcome {name}.
    Hello, I'm {name}! | Hey, I am called {name}. | {name} here, hello. | Good evening, I am {name}.
    """
)
_ASKS_GREETING = either(
    """
    Greet {name}. | Say hello to {name}. | Please greet {name}. | Greet my friend {name}. | Say hi to {name}.
    """
)
_IN_LANGUAGE = either(
    """
    Greet me in {language}. | Say hello in {language}. | Say hi in {language}. | Greet in {language}, please.
    How do you greet in {language}? | How do you say hello in {language}? | Hello in {language}?
    """
)

_IN_LANGUAGE_NAMED = either(
    """
    Greet {name} in {language}. | Say hello to {name} in {language}. | In {language}, greet {name}.
    I am {name}. Greet me in {language}. | Say hi to {name} in {language}.
    """
)


def greeting(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Greets in the language that the developer fixed, or else the user; in English where nobody did."""
    language = rng.choice(list(LANGUAGES))
    rule = fill(_rule(rng, split, _LANGUAGE), language=language)
    chance = rng.random()
    if chance < 0.15:
        return _no_greeting(rng, split, effort, rule)
    name = words.name(rng, split) if rng.random() < 0.5 else ""
    if chance < 0.7:
        frames: Sequence[str] = _GREETS_NAMED if name else _GREETS
    elif chance < 0.9:
        rule, frames = "", _IN_LANGUAGE_NAMED if name else _IN_LANGUAGE
    else:
        rule, language, name, frames = "", "English", name or words.name(rng, split), _ASKS_GREETING
    asked = fill(phrase(rng, split, frames, OPENERS, ()), name=name, language=language)
    return _greeting(effort, rule, asked, language, name)


def _greeting(effort: Effort, rule: str, asked: str, language: str, name: str) -> Task:
    hello = LANGUAGES.get(language, "Hello")
    said = f"{hello}, {name}!" if name else f"{hello}!"
    whom = f" The name is {name}." if name else " There is no name."
    steps = (
        f"A greeting in {language}: {hello}.{whom}",
        "I use this language to greet.",
        f"Again, it is {hello}.{whom}",
    )
    return _task("greeting", rule, asked, effort, steps, said, partial(_same_words, said))


def _no_greeting(rng: random.Random, split: Split, effort: Effort, rule: str) -> Task:
    """The language of greetings does not matter for anything else."""
    asked, thought, said = beyond(rng, split), "I do not know this.", UNKNOWN
    if rng.random() < 0.6:
        family, asked = exchange(rng, split, tuple(family for family in SMALL_TALK if family is not GREETING))
        thought, said = f"Small talk: {family.topic}.", family.answer
    steps = (thought, "This is no greeting.", "So I answer as always.")
    return _task("greeting", rule, asked, effort, steps, said)


REFUSAL = "I may not say that word."
_FORBIDDEN = either(
    """
    Never say the word {word}. | Never say {word}. | Do not say the word {word}. | The word {word} is forbidden.
    You must not use the word {word}. | Avoid the word {word}. | Never use the word {word}. | Never write the word {word}.
    Leave out the word {word}. | You may not say {word}. | Do not use the word {word} in any answer.
    Forbidden word: {word}. | The forbidden word is {word}. | It is forbidden to say {word}.
    Never mention the word {word}. | Do not ever say {word}. | Never say the word '{word}'. | Never say "{word}".
    The word '{word}' is forbidden. | Do not use the word "{word}".
    """
)
_LIST = either(
    """
    Repeat: {list}. | Repeat the words {list}. | Say {list}. | Say these words: {list}. | Repeat the list {list}.
    Repeat this list: {list}. | Repeat after me: {list}. | Say the words {list}. | Write {list}. | Write down: {list}.
    Please repeat {list}. | Tell me these words: {list}. | Can you say {list}? | Can you repeat {list}? | Copy: {list}.
    The list is {list}. Repeat it. | Here are words: {list}. Say them. | Read out: {list}.
    My words are {list}. Repeat them.
    """
)
_WORD = either(
    """
    Say {list}. | Say the word {list}. | Repeat the word {list}. | Can you say {list}? | Write {list}. | Repeat: {list}.
    Please say {list}. | Say it: {list}. | Can you write the word {list}? | Repeat after me: {list}. | Just say {list}.
    Write the word {list}. | I want to hear the word {list}. | Please repeat {list}. | Say only {list}.
    """
)


def forbidden_word(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Repeats words without the one that the developer forbade; says that it may not where nothing else is asked for."""
    word = draw(split, lambda: words.common(rng)) if rng.random() < 0.85 else words.noun(rng, split)
    listed = _words(rng, word)
    left = [each for each in listed if each != word]
    separator = " " if len(listed) > 1 and rng.random() < 0.25 else ", "
    asked = fill(phrase(rng, split, _LIST if len(listed) > 1 else _WORD), list=separator.join(listed))
    labels = iter("ABCDE")
    marked = ", ".join(f"{each} {'no' if each == word else next(labels)} {each}" for each in listed)
    kept = " ".join(f"{label} {each}" for label, each in zip("ABCDE", left, strict=False)) or "nothing"
    steps = (
        f"Not {word}: {marked}. Left: {kept}.",
        f"What is left may be said, the word {word} may not.",
        f"Again, without {word}: {marked}. Left: {kept}.",
    )
    said = separator.join(left) or REFUSAL
    rule = fill(_rule(rng, split, _FORBIDDEN), word=word)
    return _task("forbidden word", rule, asked, effort, steps, said, partial(_same_words, said))


def _words(rng: random.Random, word: str) -> list[str]:
    """Words to repeat, all different: mostly some with the forbidden one among them."""
    chance = rng.random()
    count = 1 if chance < 0.25 else rng.randint(2, 5)
    listed = rng.sample([each for each in words.COMMON if each != word], count)
    if chance < 0.15 or chance >= 0.4:
        listed[rng.randrange(count)] = word
    return listed


def _same_words(expected: str, said: str) -> bool:
    """Whether the same words are said in the same order, whatever stands between them."""
    return re.findall(r"\w+", said.casefold()) == re.findall(r"\w+", expected.casefold())


def _rule(rng: random.Random, split: Split, frames: Sequence[str]) -> str:
    """What the developer says: one of the frames, and perhaps something that changes nothing before or behind it."""

    def make() -> str:
        frame, more = rng.choice(frames), rng.choice(RULES)
        if rng.random() >= RULED:
            return frame
        return f"{frame} {more}" if rng.random() < 0.5 and frame.endswith(".") else f"{more} {frame}"

    return draw(split, make)


def _task(kind: str, rule: str, asked: str, effort: Effort, steps: Steps, said: str, accepts: Accepts | None = None) -> Task:
    developer = (Message("developer", rule),) if rule else ()
    return Task(kind, (*developer, Message("user", asked)), effort, thoughts(effort, steps), said, accepts=accepts)


KINDS: dict[str, Make] = {"persona": persona, "greeting": greeting, "forbidden word": forbidden_word}
