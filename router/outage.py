"""Tells the log of something that is tried again and again: once when it goes, once when it is back."""

import logging


class Outage:
    """`what` names it, as the subject of a sentence."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self._lasts = False

    def begins(self, why: str) -> None:
        """It does not work; called at each failure."""
        if not self._lasts:
            self._logger.warning("%s is out of service: %s", self._what, why)
        self._lasts = True

    def ends(self) -> None:
        """It works; called at each success."""
        if self._lasts:
            self._logger.info("%s is back in service", self._what)
        self._lasts = False
