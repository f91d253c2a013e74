"""The router: requests to replicas and back, tokens alone. `gateway` and `harmony` put the OpenAI API in front of it."""
