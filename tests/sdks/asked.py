"""What every client asks, in words that ossia-tiny has learned."""

from pydantic import BaseModel

HELLO = "Hello!"
WEATHER = "What is the weather in Paris?"
STATED = "The city is Paris. Give me JSON."
TOLD = "My name is Anna."
ASKED = "Who am I?"  # alone it would be a shorter prompt than TOLD, so one with more tokens holds both


class Place(BaseModel):
    city: str
