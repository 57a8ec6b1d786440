"""The error of the local tools: one line for the person at the terminal."""


class LocalError(Exception):
    """The tool cannot go on. The message is one line that says what the person at the terminal has to do."""
