"""Errors that somebody can fix: each message says what was wrong and what to write instead."""


class AgrbenchError(ValueError):
    """Report a mistake that the caller can fix; the command line prints the message and exits with 2."""


class SpecError(AgrbenchError):
    """Refuse a spec: `amp(kernel=3)+krum` is valid, `kurm` is not."""


class PluginError(AgrbenchError):
    """Refuse what a plugin file contains or does, and name the file."""


class DataError(AgrbenchError):
    """Refuse a data file that is missing or differs from what its publisher released."""


class RecordError(AgrbenchError):
    """Refuse a file that is not a record this version can read."""


class Inapplicable(AgrbenchError):
    """Skip a combination that is not defined, such as Bulyan with too many malicious clients."""
