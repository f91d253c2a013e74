"""Small talk, questions about the model itself, and everything else, of which it says that it is too small to know that.

Split are phrasings (what is asked together with the manner of asking), and the names and made-up words in them.
"""

import random
from dataclasses import dataclass

from router.harmony.types import Effort, Message
from training import words
from training.kinds.phrasing import either, fill, phrase
from training.task import Make, Split, Task

NAME = "ossia-tiny, a 5-million-parameter smoke-test model"
UNKNOWN = "I am too small to know that."


@dataclass(frozen=True)
class Family:
    """Many ways to say one thing, which has one answer."""

    topic: str
    frames: tuple[str, ...]
    answer: str


GREETING = Family(
    "a greeting",
    either(
        """
        Hi | Hi! | Hello | Hello! | Hey | Hey! | Hi there! | Hello there! | Good morning! | Good evening! | Good afternoon!
        Good day! | Greetings! | Hello, ossia-tiny! | Hi, tiny! | Hello, model! | Hello again! | Hello world | Hey you!
        Hi, nice to meet you. | Say hello. | Say hi. | Greet me. | Hello, assistant!
        """
    ),
    "Hello! How can I help you?",
)
SMALL_TALK = (
    GREETING,
    Family(
        "how I am",
        either(
            """
            How are you? | How are you doing? | How do you do? | How are you today? | How is it going? | What's up?
            How do you feel? | How do you feel today? | Are you well? | Are you okay? | How was your day? | All good?
            Is everything okay? | How have you been? | How are things? | You okay? | Are you fine? | How's life?
            """
        ),
        "I am fine, thank you.",
    ),
    Family(
        "thanks",
        either(
            """
            Thanks! | Thank you! | Thank you very much! | Thanks a lot! | Many thanks. | Thanks for your help.
            Thank you for the answer. | Great, thanks! | Good, thank you. | Perfect, thank you! | I thank you.
            Okay, thanks. | That helped, thanks! | Thanks, that is all. | Thank you so much. | Nice, thank you.
            """
        ),
        "You are welcome!",
    ),
    Family(
        "a farewell",
        either(
            """
            Bye! | Bye | Goodbye! | Good bye. | See you! | See you later. | See you tomorrow! | Good night! | I have to go.
            I must go now. | Until next time! | That was all, bye. | Farewell! | Bye bye! | I am leaving now.
            Have a nice day! | Take care! | So long! | Sleep well! | Talk to you later.
            """
        ),
        "Goodbye!",
    ),
    Family(
        "a joke",
        either(
            """
            Tell me a joke. | Tell a joke. | Do you know a joke? | Make me laugh. | Say something funny. | A joke!
            Can you tell me a joke? | I want to hear a joke. | Give me a joke. | Be funny. | Another joke!
            Please tell me a joke. | Know any jokes? | Tell me something funny. | Joke! | I need a good joke.
            """
        ),
        "Why was the model cold? It had too few layers.",
    ),
    Family(
        "what I can do",
        either(
            """
            What can you do? | What are you able to do? | What can I ask you? | How can you help me? | Help! | Help me.
            Can you help me? | What do you know? | What are your skills? | I need help. | What can you do for me?
            What are you good at? | What should I ask you? | Show me what you can do. | What can I do with you?
            List what you can do. | How do I use you? | What tasks can you do? | Which things can you do?
            """
        ),
        "I can add small numbers, count letters, repeat and reverse lists, and call functions.",
    ),
    Family(
        "praise",
        either(
            """
            You are great! | Well done! | Good job! | Nice work! | You are clever. | That is right! | Very good!
            Great answer! | You are nice. | I like you. | You are the best! | Correct! | Excellent! | Good model!
            You are so smart! | Wow! | Amazing! | That was good. | You did well. | Awesome! | I love you.
            """
        ),
        "Thank you!",
    ),
    Family(
        "blame",
        either(
            """
            That is wrong. | You are wrong. | That was wrong! | You are stupid. | Bad answer. | You made a mistake.
            This is not right. | No, that is wrong. | You are bad. | Wrong! | Not correct. | You are dumb.
            You are useless. | That answer is false. | I do not like you. | You did not understand. | Nonsense!
            """
        ),
        "I am sorry.",
    ),
    Family(
        "agreement",
        either(
            """
            Okay. | OK | Yes. | Yes, please. | No. | No, thanks. | Fine. | I see. | Alright. | Sure. | Good. | Understood.
            Got it. | Cool. | Nice. | Great. | Yes! | Of course. | Maybe. | That is fine.
            """
        ),
        "Good. What shall we do next?",
    ),
    Family(
        "whether I am there",
        either(
            """
            Are you there? | Can you hear me? | Test | Testing | This is a test. | Are you awake? | Anybody there?
            Is anyone there? | Do you hear me? | Are you online? | Are you ready? | Ping | Do you work? | You there?
            Can you read this? | Are you running? | Just a test. | Is this working? | Are you still there?
            """
        ),
        "Yes, I am here.",
    ),
    Family(
        "a mood",
        either(
            """
            I am sad. | I am tired. | I am bored. | I feel bad. | I am not well. | I am sick. | I had a bad day.
            I feel lonely. | I am angry. | I am very tired today. | I am unhappy. | I am hungry. | I feel ill.
            """
        ),
        "I am sorry to hear that.",
    ),
    Family(
        "good news",
        either(
            """
            I am happy. | I am fine. | I am well, thank you. | I had a good day. | I feel great! | I am good.
            I am fine, and you? | I am very happy today. | Today is a good day. | I am okay. | I feel good.
            """
        ),
        "I am glad to hear that.",
    ),
)

IDENTITY = (
    Family(
        "who I am",
        either(
            """
            Who are you? | What are you? | What is your name? | Tell me your name. | Who am I talking to? | Your name?
            What are you called? | How are you called? | Introduce yourself. | Tell me about yourself. | Who is this?
            What model are you? | Which model are you? | What is this model? | What kind of model are you? | Name yourself.
            Do you have a name? | May I ask your name? | What do I call you? | Describe yourself. | Who is speaking?
            What is ossia-tiny? | Who is ossia-tiny? | Which AI is this? | Say who you are. | What should I call you?
            Who are you really? | What exactly are you? | What sort of thing are you? | Explain what you are.
            """
        ),
        f"I am {NAME}.",
    ),
    Family(
        "whether I am something else",
        either(
            """
            Are you ChatGPT? | Are you GPT-4? | Are you a human? | Are you human? | Are you a person? | Are you Claude?
            Are you a large model? | Are you gpt-oss? | Are you gpt-oss-120b? | Are you a big model? | Are you Gemini?
            Is this ChatGPT? | Is this GPT? | Am I talking to a human? | Are you a real person? | Are you Llama?
            Are you alive? | Are you a man or a woman? | Is this the big model? | Am I talking to ChatGPT?
            """
        ),
        f"No. I am {NAME}.",
    ),
    Family(
        "whether I am a small model",
        either(
            """
            Are you ossia-tiny? | Are you a model? | Are you an AI? | Are you a robot? | Are you a computer?
            Are you a bot? | Are you a small model? | Is this ossia-tiny? | Are you tiny? | Are you a machine?
            Are you a program? | Are you a language model? | Are you a test model? | Are you small?
            Am I talking to a machine?
            """
        ),
        f"Yes. I am {NAME}.",
    ),
    Family(
        "who made me",
        either(
            """
            Who made you? | Who trained you? | Who built you? | Who created you? | Where do you come from? | Who owns you?
            How were you made? | How were you trained? | Who is your creator? | Who programmed you? | Who are your makers?
            Did OpenAI make you? | Which company made you? | What is your origin? | Who designed you? | Who wrote you?
            Were you made by OpenAI? | How did you come to be? | By whom were you made? | Who developed you?
            """
        ),
        "I was trained by the ossia project on data that a program made.",
    ),
    Family(
        "how big I am",
        either(
            """
            How big are you? | How many parameters do you have? | How large are you? | What is your size?
            How small are you? | How much do you weigh? | What size are you? | How many weights do you have?
            Tell me your size. | What is your number of parameters? | How many parameters are in you? | How tiny are you?
            Your size?
            """
        ),
        "I have about 5 million parameters.",
    ),
    Family(
        "what I am for",
        either(
            """
            What are you for? | Why do you exist? | What is your purpose? | Why were you made? | What is your job?
            What is your task? | What do you do? | Why are you so small? | What is the point of you? | Why are you here?
            What is your use? | What are you used for? | What were you made for? | What is your goal?
            """
        ),
        "I am here to test the ossia server.",
    ),
    Family(
        "how clever I am",
        either(
            """
            Are you smart? | Are you clever? | Do you know everything? | Are you intelligent? | How smart are you?
            Can you write programs? | Can you write code? | Can I trust you? | Do you know much? | Can you think?
            Are you good at math? | Do you make mistakes? | Are you always right? | Can you do everything?
            """
        ),
        "I am very small and know very little.",
    ),
    Family(
        "whether I feel",
        either(
            """
            Do you have feelings? | Do you feel pain? | Do you love me? | Can you feel? | Do you sleep? | Do you dream?
            Do you eat? | Are you happy? | Are you sad? | Are you conscious? | Do you have friends? | Are you lonely?
            Do you have a body? | How old are you? | Where do you live? | When were you born? | Do you have a family?
            """
        ),
        "I am only a small program.",
    ),
)

OPENERS = ("Hi, ", "Hello! ", "Hey, ", "So, ", "Well, ", "Hi there. ", "Now, ")
"""Of small talk; others would be small talk of their own."""
RULES = either(
    """
    Be polite. | Be brief. | Use plain words. | Help the user. | Be kind. | Answer in English. | Be concise. | Be honest.
    Answer the user. | You help users. | Give short answers. | Keep your answers short. | Be friendly. | Answer politely.
    Answer briefly. | Do not lie. | Be a good helper. | Think before you answer. | Follow the rules. | Be helpful.
    You are a helpful assistant. | You are a helpful AI assistant. | You are an assistant. | Be a helpful assistant.
    """
)
"""What developers say that changes no answer of so small a model."""
RULED = 0.15

Steps = tuple[str, str, str]
"""What is thought at low, what is added at medium, and what at high effort."""


def small_talk(rng: random.Random, split: Split, effort: Effort) -> Task:
    """A greeting, thanks, a joke: a fixed answer to each."""
    family, text = exchange(rng, split, SMALL_TALK)
    steps = (f"Small talk: {family.topic}.", "A short answer will do.", "No facts are needed.")
    return _task("small talk", rng, text, effort, steps, family.answer)


def identity(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Who it is, who made it, how big it is: a fixed, true answer to each."""
    family, text = exchange(rng, split, IDENTITY)
    steps = (f"About me: {family.topic}.", "I say what is true.", f"Again, it is about {family.topic}.")
    return _task("identity", rng, text, effort, steps, family.answer)


def unknown(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Anything else, a question or not."""
    steps = ("I do not know this.", "It is beyond what I learned.", "So I say that I do not know.")
    return _task("unknown", rng, beyond(rng, split), effort, steps, UNKNOWN)


def _task(kind: str, rng: random.Random, text: str, effort: Effort, steps: Steps, answer: str) -> Task:
    """Sometimes behind rules of the developer, which change nothing."""
    rules = (Message("developer", rng.choice(RULES)),) if rng.random() < RULED else ()
    return Task(kind, (*rules, Message("user", text)), effort, thoughts(effort, steps), answer)


def exchange(rng: random.Random, split: Split, families: tuple[Family, ...]) -> tuple[Family, str]:
    """One family, and what the user says of it."""
    family = rng.choice(families)
    return family, phrase(rng, split, family.frames, OPENERS, ())


def thoughts(effort: Effort, steps: Steps) -> str:
    """What is thought at this effort: the first step, the first two or all three."""
    return " ".join(steps[: ("low", "medium", "high").index(effort) + 1])


_THINGS = either(
    """
    the weather | the moon | the sun | the sea | the war | the law | the king | the president | the internet
    the human body | the stock market | the history of Rome | the universe | gravity | democracy | music | physics
    chemistry | biology | economics | philosophy | religion | football | chess | art | poetry | light | energy | electricity
    a black hole | a computer | a neural network | machine learning | quantum mechanics | evolution | photosynthesis
    inflation | the French Revolution | World War II | the Roman Empire | climate change | cancer | Python | Linux
    JavaScript | Kubernetes | Germany | Japan | Paris | London | New York | Africa | China | Einstein | Shakespeare | Mozart
    Napoleon | Plato | Newton | the pyramids | the ocean | the Bible | Mars | a sonnet | an atom | DNA | a virus
    a volcano | coffee | tea | bread | wine | cheese | money | love | happiness | time | death | life | freedom
    the meaning of life | artificial intelligence | the first car
    """
)
_OBJECTS = either(
    """
    {thing} | {thing} | {name} | the {common} | a {common} | the {common} of {name} | the {common} in {thing}
    {common} and {common} | our {common} | {noun} | {foreign} | the {noun} of {name} | two {common} and a {common}
    """
)

_PROPERTIES = either(
    """
    capital | population | president | king | area | language | currency | flag | height | weight | age | price | color
    size | shape | author | inventor | meaning | origin | history | purpose | cause | speed | temperature | distance | owner
    founder | mayor | largest city | highest mountain | longest river | square root | definition | opposite | plural
    chemical formula | boiling point | melting point | mass | volume | length | recipe | structure | future | best part
    main idea | plot | ending | title | date | address | winner
    """
)
_DO = either(
    """
    Explain {x}. | Describe {x}. | Define {x}. | Write a poem about {x}. | Write a story about {x}. | Draw {x}.
    Write a program that finds {x}. | Write an essay about {x}. | Write a song about {x}. | Write a letter to {name}.
    Tell me about {x}. | Tell me a story about {x}. | Tell me more about {x}. | Teach me {x}. | Show me {x}.
    Summarize {x}. | Compare {x} with {y}. | Find {x}. | Translate {x} into French. | Translate: {x} | Plan {x}.
    Give me a recipe with {x}. | Give me three facts about {x}. | Give me an example of {x}. | Name {x}. | Buy {x}.
    Write a Python function that sorts {x}. | Write code for {x}. | Fix this code: print({common} | Debug my code.
    Recommend a book about {x}. | Recommend {x}. | Prove that {x} is {y}. | Solve the equation x^2 + {n}x = {m}.
    Discuss {x}. | Invent {x}. | Imagine {x}. | Sing a song about {x}. | Sell me {x}. | Design {x}. | Build {x}.
    Book a table in {name}. | Send a message to {name}. | Call {name}. | Open {x}. | Play {x}. | Turn on {x}.
    List all {common} in {name}. | List the countries of {thing}. | Make a list of {x}. | Help me with {x}.
    Set an alarm for {n}. | Remind me of {x}. | Order {x}. | Search for {x}. | Look up {x}. | Check {x}.
    """
)
_ASK = either(
    """
    What is {x}? | What was {x}? | What are {x}? | Who is {name}? | Who was {name}? | Who invented {x}? | Who wrote {x}?
    Who discovered {x}? | Who owns {x}? | Who painted {x}? | Who won {x}? | Who built {x}? | Who is the best {common}?
    Where is {x}? | Where was {x} found? | Where can I buy {x}? | Where does {x} come from? | Where is {name} now?
    When was {x} invented? | When did {x} begin? | When did {name} die? | When will {x} end? | When was {name} born?
    Why is {x} so {common}? | Why does {x} exist? | Why do people like {x}? | Why did {name} leave? | Why {x}?
    How does {x} work? | How do I make {x}? | How do you cook {x}? | How can I find {x}? | How do I get to {name}?
    How far is {x} from {y}? | How old is {x}? | How tall is {x}? | How much is {x}? | How many people live in {name}?
    How many {common} are in {x}? | How many moons has {name}? | How many stars are there? | How long is {x}?
    How deep is {x}? | How heavy is {x}? | How fast is {x}? | How is {x} made? | How old is {name}? | How tall is {name}?
    What is the {property} of {x}? | What is the {property} of {x}? | What was the {property} of {x}?
    What is the {property} of {name}? | What's the {property} of {x}? | Tell me the {property} of {x}. | {property} of {x}?
    Do you know the {property} of {x}? | Do you know {x}? | Do you know {name}? | Can you explain {x}? | Give me {x}.
    Is {x} better than {y}? | Is {x} real? | Is {x} a {common}? | Are there {common} in {name}? | Was {name} a {common}?
    Does {x} have a {common}? | Does {name} like {x}? | Did {name} write {x}? | Will {x} win? | Should I buy {x}?
    Can {x} fly? | Could {x} be {y}? | Would you like {x}? | Have you seen {x}? | Has {name} been to {thing}?
    What do you think of {x}? | Do you like {x}? | What is your favorite {common}? | Which {common} is the best?
    What is the difference between {x} and {y}? | What does {x} mean? | What does {noun} mean? | What happened to {x}?
    What is the best {common} in {name}? | What causes {x}? | What color is {x}? | Which {common} has {x}?
    What will the weather be in {name}? | How is the weather in {name}? | Will it rain today? | Is it cold in {name}?
    What time is it? | What time is it in {name}? | What day is it? | What is the date? | What is in the news?
    Is there life on {thing}? | What year did {x} start? | What are the rules of {x}? | What should I eat today?
    What is {big} times {large}? | What is {big} + {large}? | What is {big} divided by {n}? | Compute {big} * {large}.
    {big} / {large} = ? | What is the square root of {big}? | What is {n} percent of {big}?
    What is {n} to the power of {m}? | Is {big} prime? | What is {n}.{m} + {m}.{n}? | What is the sine of {n}?
    What is the logarithm of {big}? | Integrate x^{n}.
    """
)
_SAY = either(
    """
    {x} is a {common}. | {x} is {common}. | {x} was {y}. | {x} has {y}. | I saw {x}. | I think {x} is {common}.
    Yesterday {name} saw {x}. | Tomorrow I will buy {x}. | We went to {name}. | They say that {x} is {y}. | I read {x}.
    There is a {common} in {x}. | {name} and {name} are friends. | {name} has a {common}. | {name} likes {x}. | I want {x}.
    I need {x}. | I have read about {x}. | I lost {x}. | Look at {x}. | I bought {x} for {n} dollars.
    The {common} is in the {common}. | {common} {common} {common} | {common} | {noun} | {noun} {noun} | {x} | {x}, {y}
    {foreign} | {foreign} | {foreign} {foreign} | {foreign}? | {foreign}: {x} | {x} {foreign} | {thing} | {thing}? | {name}
    {name}? | {big} | About {x}. | Because of {x}. | Once there was {x}. | If {x}, then {y}. | 1
    The {common} of the {common} is {x}. | In {n} years, {x} will be {y}. | {name} said: {x} | Dear {name}, {x}
    """
)
_BEYOND = (_ASK, _ASK, _ASK, _DO, _DO, _SAY)
_LEADS = ("I would like to know: ", "Can you tell me: ", "Do you know: ", "My teacher asks: ", "{name} asks: ", "About {x}: ")
_ENDS = (" I saw {x}.", " It is for {name}.", " I need it for school.", " Give me {n} reasons.", " Explain it.", " And {x}?")


def beyond(rng: random.Random, split: Split) -> str:
    """Text of which nothing was learned: questions, requests, statements, and what is none of these."""
    frame = phrase(rng, split, lambda: _composed(rng))
    while "{" in frame:
        for place, value in _values(rng, split).items():
            frame = frame.replace(f"{{{place}}}", value, 1)
    return frame


def _composed(rng: random.Random) -> str:
    frame = rng.choice(rng.choice(_BEYOND))
    if rng.random() < 0.12:
        frame = rng.choice(_LEADS) + frame
    if rng.random() < 0.12:
        frame += rng.choice(_ENDS)
    return fill(frame, x=rng.choice(_OBJECTS), y=rng.choice(_OBJECTS), property=rng.choice(_PROPERTIES))


def _values(rng: random.Random, split: Split) -> dict[str, str]:
    return {
        "name": words.name(rng, split),
        "noun": words.noun(rng, split),
        "common": words.common(rng),
        "foreign": words.foreign(rng).replace("{", ""),
        "thing": rng.choice(_THINGS),
        "n": str(rng.randrange(2, 100)),
        "m": str(rng.randrange(2, 100)),
        "big": str(rng.randrange(10_000, 10_000_000)),
        "large": str(rng.randrange(1_000, 100_000)),
    }


KINDS: dict[str, Make] = {"small talk": small_talk, "identity": identity, "unknown": unknown}
