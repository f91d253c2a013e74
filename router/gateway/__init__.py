"""The OpenAI API over HTTP: text in, text out. Knows an Engine, which speaks tokens, and nothing of what is behind it."""
