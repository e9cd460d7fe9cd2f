"""Errors of the server: requests that are refused, and a server that cannot start."""

import reprlib

_LONGEST_MESSAGE = 1000
_LONGEST_VALUE = 80

_REPR = reprlib.Repr()
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 12
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST_MESSAGE


class StartError(Exception):
    """The run or the settings cannot be served; printed in one line, exit status 2."""


class Refused(Exception):
    """A request gets an error status instead of an answer.

    Args:
        status: HTTP status: 400 or 422 for what the client has to change, 404, 413, 415, 429, 503, 504.
        message: One line: what was expected, what was received, how to fix it. Cut after 1,000 characters.
        retry_after_s: Seconds after which the same request may succeed. Defaults to `None`: never.
        headers: Further headers of the response. Defaults to none.

    Example:
        >>> Refused(429, "The server is full.", retry_after_s=1).headers
        {'Retry-After': '1'}
    """

    def __init__(self, status, message, *, retry_after_s=None, headers=None):
        super().__init__(cut(message, _LONGEST_MESSAGE))
        self.status = status
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    def at(self, place):
        """Return the same error with the place in the request that it is about, such as `image[3]`."""
        error = Refused(self.status, f"{place}: {self}")
        error.headers = self.headers
        return error


def shown(value, longest=_LONGEST_VALUE):
    """Return a value of a request for an error message: as Python writes it, in one line, cut.

    Args:
        value: Anything.
        longest: Characters to keep. Defaults to 80.

    Returns:
        A string; NaN, control characters and halves of surrogate pairs are escaped.

    Example:
        >>> shown("a" * 1000, longest=4)
        "'aaa..."
    """
    if isinstance(value, str | bytes):
        value = value[: longest + 1]  # what is escaped is only longer
    try:
        return cut(_REPR.repr(value), longest)
    except ValueError:  # an integer of over 4,300 digits
        return f"a very large {type(value).__name__}"


def cut(text, longest):
    """Return a text of at most so many characters and `...`."""
    return text if len(text) <= longest else f"{text[:longest]}..."
