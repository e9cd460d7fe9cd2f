"""Files and folders that systems and programs leave in data, and that are never examples."""

JUNK_FOLDERS = (
    *("__macosx", "@eadir", "@__thumb", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin"),
    *("@recently-snapshot", "@appledouble", "network trash folder", "temporary items", "found.000"),
    *("system volume information", "lost+found", "__pycache__"),
)
_JUNK_FILES = (
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "folder.ini"),
    *("icon\r", "thumbs.db:encryptable", "zbthumbnail.info"),
)


def junk_name(name: str, *, is_folder: bool) -> str | None:
    """A description of a file or folder that is never data, or None if it may be data.

    Args:
        name: Without its folder.
        is_folder: Whether it is a folder.

    Example:
        >>> junk_name("._1.jpg", is_folder=False), junk_name("1.jpg", is_folder=False)
        ('._*', None)
    """
    lower = name.lower()
    if is_folder:
        return f"{name}/" if lower in JUNK_FOLDERS or name.startswith(".") else None
    if name.startswith("._"):
        return "._*"
    if name.startswith("~$"):
        return "~$*"
    if lower in _JUNK_FILES or lower == ".ds_store":
        return name.strip()
    return "hidden files" if name.startswith(".") else None
