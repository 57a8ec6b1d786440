"""What can go wrong while the local stack comes up, as one line for a person."""


class LocalError(Exception):
    """Something the person at the terminal has to know or do; the message is one line that says what."""
