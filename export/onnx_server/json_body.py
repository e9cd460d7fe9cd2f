"""JSON in a request's body, read strictly."""

import json

from .errors import Refused, shown


def read_json(body, expected):
    """Return the object that a body holds.

    Refused are: other encodings than UTF-8, NaN and infinity, a key twice in an object, and what is no JSON.

    Args:
        body: Bytes.
        expected: What the body should have been, for the error message.

    Returns:
        A dictionary.

    Raises:
        Refused: 400, the body is no JSON object.

    Example:
        >>> read_json(b'{"text": "Fine!"}', "a text")
        {'text': 'Fine!'}
    """
    try:
        value = json.loads(
            body.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique_keys
        )
    except UnicodeDecodeError as error:
        reason = f"bytes that are not UTF-8, at {error.start}"
    except (ValueError, RecursionError) as error:
        reason = "too many levels of nesting" if isinstance(error, RecursionError) else str(error)
    else:
        if isinstance(value, dict):
            return value
        reason = "JSON that is not an object"
    raise Refused(400, f"Expected {expected}, got {shown(bytes(body[:80]))}: {reason}. Send it as JSON.")


def check_keys(given, known, what):
    """Refuse an object with other keys than the known ones.

    Args:
        given: A dictionary.
        known: Names.
        what: What the object is, for the error message.

    Raises:
        Refused: 400, naming the keys.

    Example:
        >>> check_keys({"text": "Fine!", "top_k": 1}, ["text"], "the body")
        Traceback (most recent call last):
        onnx_server.errors.Refused: Expected only 'text' in the body, got also 'top_k'. Remove it.
    """
    unknown = [key for key in given if key not in known]
    if unknown:
        names, found = ", ".join(map(repr, known)), ", ".join(shown(key, 40) for key in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise Refused(400, f"Expected only {names} in {what}, got also {found}{more}. Remove it.")


def whole_number(value):
    """Return a number of JSON as an integer, `None` for one that is not whole and for other values.

    To JSON 1.0 and 1 are one number.

    Example:
        >>> whole_number(1.0), whole_number(1.5), whole_number(True)
        (1, None, None)
    """
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


def _no_constant(name):
    raise ValueError(f"{name}, which JSON has no notation for")


def _unique_keys(pairs):
    found = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {shown(name)} twice in one object")
        found[name] = value
    return found
