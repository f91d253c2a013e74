"""What real functions are about: how one is named and described, and how a user asks for it.

`{city}` is an argument, of which `VALUES` says what is filled in; behind `|` is what a user may leave out; behind each `/` is
another way to say it. The word behind the first article is the function's topic: it stands in its name, in its description and
mostly in what the user says.
"""

VALUES: dict[str, str] = {
    **dict.fromkeys(("city", "country", "origin", "destination", "street", "hotel", "place", "village", "island"), "name"),
    **dict.fromkeys(("person", "friend", "player", "owner", "guest", "company", "writer", "team", "doctor"), "name"),
    **dict.fromkeys(("title", "text", "task", "dish", "file", "topic", "subject", "product", "theme", "room"), "words"),
    **dict.fromkeys(("word", "source", "target", "folder", "page", "animal", "color"), "word"),
    **dict.fromkeys(("days", "hours", "minutes", "nights", "people", "euros", "degrees"), "number"),
    **dict.fromkeys(("level", "count", "year", "number", "pages", "points", "miles"), "number"),
}
"""What an argument's value is: an invented proper name, one or two ordinary words, one, or an integer."""

OTHER_WORDS = {
    "city": ("location", "place", "town"),
    "person": ("name", "contact", "user"),
    "friend": ("recipient", "name", "to"),
    "title": ("name", "query"),
    "topic": ("query", "subject"),
    "text": ("body", "content"),
    "origin": ("from", "start"),
    "destination": ("to", "end"),
    "product": ("item", "name"),
    "country": ("nation", "place"),
}
"""What else an argument is named by."""

QUESTIONS = (
    "the weather in {city} | for {days} days / What's the weather like in {city}? / How is the weather in {city}?",
    "the temperature in {city} | in {hours} hours",
    "the time in {city} / What time is it in {city}?",
    "the population of {country} | in the year {year} / How many people live in {country}?",
    "the distance from {origin} to {destination} / How far is it from {origin} to {destination}?",
    "the route from {origin} to {destination} | within {hours} hours",
    "the price of {product} | for {people} people / How much is {product}? / What does {product} cost?",
    "the stock of {product} | in {city}",
    "the age of {person} / How old is {person}?",
    "the address of {person} | in {city} / Where does {person} live?",
    "the phone of {person}",
    "the email of {person} | at {company}",
    "the birthday of {friend} / When was {friend} born?",
    "the author of {title} / Who wrote {title}?",
    "the plot of {title} | in {pages} pages / What happens in {title}?",
    "the length of {title} / How long is {title}?",
    "the song with the title {title} | by {writer}",
    "the singer of {title} / Who sings {title}?",
    "the recipe for {dish} | for {people} people / How do I cook {dish}?",
    "the news about {topic} | from {days} days / What is new about {topic}?",
    "the meaning of {word} | in {country} / What does {word} mean?",
    "the flight to {destination} | for {people} people",
    "the train from {origin} to {destination}",
    "the hotel in {city} | for {nights} nights",
    "the restaurant in {city} | with {dish}",
    "the museum in {city} | about {topic}",
    "the score of {team} | in the year {year}",
    "the tax on {euros} euros | in {country}",
    "the schedule of {doctor} | for {days} days",
    "the balance of {owner}",
    "the order number {number}",
    "the map of {place} | within {miles} miles",
    "the traffic on {street}",
    "the rate from {source} to {target}",
    "the size of {file} / How big is {file}?",
    "the history of {island} | in {pages} pages",
)
ACTIONS = (
    "set start create: a timer for {minutes} minutes / Wait for {minutes} minutes.",
    "set create add: an alarm in {hours} hours | and {minutes} minutes / Wake me in {hours} hours.",
    "send write post: a message to {friend} saying {text} / Tell {friend} the message {text}.",
    "send write create: an email to {person} about {subject}",
    "start make plan: a call to {person} | in {minutes} minutes / Call {person}.",
    "play start load: the music called {title} | by {writer} / Play {title}.",
    "add create write: a note about {topic}",
    "set add create: a reminder to {task} | in {days} days / Remind me to {task}.",
    "book order reserve: a table in {city} | for {people} people",
    "book reserve order: a room in {hotel} for {nights} nights",
    "buy book reserve: a ticket to {destination} | for {people} people",
    "order buy add: the product {product} | with the count {count}",
    "turn set change: the light in {room} | to {level} percent / Turn on the light in {room}.",
    "set change turn: the volume to {level}",
    "set change turn: the heat to {degrees} degrees | in {room}",
    "send make pay: a payment of {euros} euros to {company} / Pay {euros} euros to {company}.",
    "pay send open: a bill of {euros} euros | for {product}",
    "create plan add: an event called {title} | in {days} days",
    "read open load: the file {file} | from {folder}",
    "delete remove clear: the folder {folder}",
    "open show load: the page {page}",
    "start play join: a game with {player} | for {points} points",
    "create make draw: a picture of {animal} | in {color}",
    "print create send: a document about {subject} | with {pages} pages",
    "write create add: a story about {animal} | for {minutes} minutes",
    "add create buy: a gift for {guest} | of {euros} euros",
    "set change test: the code to {number}",
    "start plan create: a meeting with {guest} about {topic}",
    "track start run: a trip to {village} | of {miles} miles",
    "create set start: a test about {theme} | with {points} points",
)
"""The user's and the function's verbs, and what is done."""

ASKED = (
    *(
        "What is {x}?",
        "What is {x}?",
        "What is {x}?",
        "Tell me {x}.",
        "Please tell me {x}.",
        "I want to know {x}.",
        "Find {x}.",
    ),
    *("Can you find {x}?", "Do you know {x}?", "I need {x}.", "Could you look up {x}?", "Give me {x}.", "Look up {x}."),
    *("Show me {x}.", "I would like to know {x}.", "Check {x}.", "Please find {x}.", "Get {x}.", "Get me {x}."),
    *("I am looking for {x}.", "Can you tell me {x}?", "Could you give me {x}?", "What about {x}?", "Please get {x}."),
)
TOLD = (
    *("{x}.", "{x}.", "{x}.", "Please {x}.", "Can you {x}?", "Could you {x}?", "I want you to {x}.", "I need you to {x}."),
    *("You should {x}.", "Would you {x}?", "I want to {x}.", "I would like to {x}.", "Help me to {x}.", "We have to {x}."),
    *("Will you {x}?", "You can {x}.", "I have to {x}.", "Do this: {x}.", "Go and {x}.", "It is time to {x}."),
)
REAL = (
    *(
        "Paris",
        "London",
        "Berlin",
        "Rome",
        "Tokyo",
        "Madrid",
        "Boston",
        "Chicago",
        "Sydney",
        "Texas",
        "Spain",
        "China",
        "India",
    ),
    *(
        "Japan",
        "France",
        "Germany",
        "Italy",
        "Canada",
        "Anna",
        "Ben",
        "Carl",
        "David",
        "Emma",
        "Frank",
        "Peter",
        "Maria",
        "John",
    ),
    *("Alice", "Bob", "Tom", "Lucy", "Sam", "Jack", "Max", "Paul", "Mary", "James", "Sarah", "Daniel", "Mark", "Jane", "Steve"),
)
"""Names that are not invented."""
FOUND = ("get", "find", "check", "show", "read", "load", "search", "fetch")
"""Verbs in the names of functions that answer questions."""
