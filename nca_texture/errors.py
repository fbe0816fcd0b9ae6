"""Failures a user can act on; each kind has the exit code that the command line gives it."""


class InputError(ValueError):
    """A file that was given cannot be used: missing, damaged, foreign or unsuitable (exit 1)."""


class MissingError(RuntimeError):
    """Something that has to be installed, downloaded or plugged in is not there (exit 3)."""
