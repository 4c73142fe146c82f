"""The one exception that the scripts turn into a one-line message."""


class InputError(ValueError):
    """Something the user gave (a file, a folder, a setting) cannot be used.

    The message is one line: it names the file or value, says what was expected
    and what to do about it.
    """
