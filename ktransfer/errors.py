"""What can go wrong that a user can mend. Bugs raise as bugs."""


class KTransferError(Exception):
    """Base of every error that says how to mend it; the command line prints it in one line and exits 2."""


class DataError(KTransferError):
    """The examples cannot be used as they are: missing, unreadable, one class only, ..."""


class RecipeError(KTransferError):
    """A recipe or a stage asks for something that cannot be, by itself or on this backbone."""


class BackboneError(KTransferError):
    """A backbone cannot be found, loaded, or taken apart."""


class RunError(KTransferError):
    """A run folder exists already, is incomplete, or does not fit what is asked of it."""


class ExportError(KTransferError):
    """An artefact could not be written, or does not answer as the trained model does."""
