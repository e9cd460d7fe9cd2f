"""The verbs of the command line as functions, one a module."""
