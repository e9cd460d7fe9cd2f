"""Parameters in the query of a request."""

from fastapi import Request

from .errors import Refused, shown


def known_query(*known):
    """Return a dependency that refuses a query with an unknown parameter, or with one twice.

    Args:
        *known: Names of the parameters that the route takes.

    Example:
        >>> app.add_api_route("/predict", predict, dependencies=[Depends(known_query("top_k"))])
    """

    def check(request: Request):
        seen = set()
        for name, _ in request.query_params.multi_items():
            if name not in known:
                expected = f"the query parameter {', '.join(known)}" if known else "no query parameters"
                raise Refused(400, f"Expected {expected}, got {shown(name)}. Remove it.")
            if name in seen:
                raise Refused(400, f"Expected {name!r} once in the query, got it twice. Keep one.")
            seen.add(name)

    return check
