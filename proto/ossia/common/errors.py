"""The error that a user can mend. The CLI prints it on one line and exits with code 2; anything else is our bug."""


class UserError(Exception):
    """Says on one line what is wrong, where, and what to do."""
