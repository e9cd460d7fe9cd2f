"""What the server refuses, and how it says so."""


class StartError(Exception):
    """The run or the settings cannot be served; printed in one line, exit status 2."""


class Refused(Exception):
    """A request gets an error status instead of an answer.

    Args:
        status: Of HTTP: 400 for what the client has to change, 413, 415, 429, 503, 504.
        message: One sentence: what was expected, what was received, what to do.
        retry_after_s: Seconds after which the same request may succeed; `None` where it never will.

    Example:
        >>> Refused(429, "The server is full.", retry_after_s=1).headers
        {'Retry-After': '1'}
    """

    def __init__(self, status, message, *, retry_after_s=None):
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
