"""Compressed bodies of requests: gzip and deflate, unpacked within a bound."""

import zlib

from .errors import Refused, shown

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # deflate in HTTP means zlib's format, RFC 9110
_MOST_MEMBERS = 16  # each costs a copy of the rest


def coding_of(headers):
    """Return the compression of a body, `None` for none.

    Args:
        headers: ASGI's pairs of bytes.

    Raises:
        Refused: 415, for another than gzip or deflate, or more than one.

    Example:
        >>> coding_of([(b"content-encoding", b"gzip")])
        'gzip'
    """
    values = ",".join(value.decode("latin-1") for name, value in headers if name == b"content-encoding")
    codings = [each for each in (part.strip().lower() for part in values.split(",")) if each]
    codings = [each for each in codings if each != "identity"]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _WINDOW_BITS:
        raise Refused(
            415,
            f"Expected a Content-Encoding of gzip or deflate, got {shown(values)}. "
            "Send the body so, or uncompressed.",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return codings[0]


def unpacked(body, coding, max_bytes):
    """Return the uncompressed body.

    Args:
        body: Bytes.
        coding: `"gzip"` or `"deflate"`.
        max_bytes: The most to unpack: no more memory is taken, however much would come.

    Raises:
        Refused: 413, more than `max_bytes`; 400, broken or not complete.

    Example:
        >>> unpacked(gzip.compress(b"{}"), "gzip", 100)
        b'{}'
    """
    content, rest, members = bytearray(), bytes(body), 0
    while members == 0 or rest:
        members += 1
        engine = zlib.decompressobj(wbits=_WINDOW_BITS[coding])
        try:
            content += engine.decompress(rest, int(max_bytes) + 1 - len(content))
        except zlib.error as error:
            raise _broken(coding, str(error)) from error
        if len(content) > max_bytes:
            raise Refused(
                413,
                f"Expected at most {max_bytes:,.0f} bytes after unpacking, got {len(body):,} in {coding} "
                "that unpack to more. Send a smaller image, or fewer examples.",
            )
        if not engine.eof:
            raise _broken(coding, "the end is missing")
        rest = engine.unused_data
        if rest and (members == _MOST_MEMBERS or coding == "deflate"):
            raise _broken(coding, f"{len(rest):,} bytes behind the end")
    return bytes(content)


def _broken(coding, reason):
    return Refused(400, f"Expected a whole body in {coding}, got one with: {reason}. Compress it again.")
