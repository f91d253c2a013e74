"""How many tokens are worth drafting for a request, by what became of its last drafts."""

FIRST = 2  # drafts of the first try
LONGEST_PAUSE = 256  # output tokens


class Pace:
    """Doubles while every draft is accepted and falls back to what was accepted; after a miss it pauses, longer each time."""

    def __init__(self) -> None:
        self._reach = FIRST
        self._misses = 0
        self._resume_at = 0  # output tokens

    def drafts(self, output_tokens: int) -> int:
        """How many to draft after so many output tokens."""
        return self._reach if output_tokens >= self._resume_at else 0

    def learn(self, drafted: int, accepted: int, output_tokens: int) -> None:
        """So many drafts were accepted, the output having so many tokens since."""
        if accepted:
            self._misses = 0
            self._reach = 2 * drafted if accepted == drafted else accepted
        else:
            self._misses += 1
            self._reach = 1
            self._resume_at = output_tokens + min(1 << self._misses, LONGEST_PAUSE)
