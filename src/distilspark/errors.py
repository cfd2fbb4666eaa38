"""The two ways in which a command ends badly, and the exit codes that tell them apart."""


class UserError(Exception):
    """A mistake of the caller's: the message names the key, file or row and the way out. Exit code 2, no traceback."""


class WorkError(Exception):
    """A failure of the work itself, foreseen and explained in the message. Exit code 1, no traceback on the console."""
