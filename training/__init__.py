"""Trains ossia-tiny, the small gpt-oss that ossia carries. Not installed with the serving packages, which never import it."""
