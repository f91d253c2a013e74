"""How long to wait before something that died is started again."""

FIRST_S, LONGEST_S, HEALTHY_S = 0.5, 30.0, 60.0


class Backoff:
    """Doubles from half a second to 30 s while lives are short; a life of a minute starts it over."""

    def __init__(self) -> None:
        self._delay_s = FIRST_S

    def after(self, lived_s: float) -> float:
        """Seconds to wait after a life of `lived_s` seconds."""
        if lived_s >= HEALTHY_S:
            self._delay_s = FIRST_S
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_S)
        return delay_s
