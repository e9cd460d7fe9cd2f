"""The public names with their signatures, as tests/api_surface.txt lists them.

python tests/api_surface.py     # writes the list anew, after a change that is meant
"""

import inspect
import re
from pathlib import Path

LISTING = Path(__file__).with_suffix(".txt")


def signature(value):
    """Parameters with their kinds and defaults; annotations are for type checkers, and not listed."""
    found = inspect.signature(value)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in found.parameters.values()]
    text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)


def members(kind):
    """The public members of a class that ktransfer itself defines, from the class or what it inherits from."""
    ours = [each for each in kind.__mro__ if each.__module__.startswith("ktransfer")]
    names = {name for each in ours for name in [*vars(each), *vars(each).get("__annotations__", {})]}
    for name in sorted(name for name in names if not name.startswith("_")):
        value = inspect.getattr_static(kind, name, None)
        if isinstance(value, classmethod | staticmethod):
            yield f"{name}{signature(getattr(kind, name))}"
        elif inspect.isfunction(value):
            yield f"{name}{signature(value)}"
        else:
            yield name


def listing():
    """The whole list."""
    import ktransfer

    lines = []
    for name in ktransfer.__all__:
        value = getattr(ktransfer, name)
        if not inspect.isclass(value):
            lines.append(f"{name}{signature(value)}")
        elif issubclass(value, Exception):
            lines.append(f"{name}: {', '.join(base.__name__ for base in value.__bases__)}")
        else:
            lines.append(f"{name}{signature(value)}")
            lines += [f"    .{member}" for member in members(value)]
    return "\n".join(lines) + "\n"


def main():
    LISTING.write_text(listing(), encoding="utf-8")


if __name__ == "__main__":
    main()
