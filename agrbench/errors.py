"""What can go wrong by somebody's mistake: each message says what was wrong and what to write instead."""


class AgrbenchError(ValueError):
    """Tell the caller about a mistake that the caller can mend; the command line prints it and exits with 2."""


class SpecError(AgrbenchError):
    """Refuse a spec: `amp(kernel=3)+krum` is one, `kurm` is not."""


class PluginError(AgrbenchError):
    """Refuse what a plugin file says or does, naming the file."""


class DataError(AgrbenchError):
    """Refuse a data file that is absent or not what its publisher made."""


class RecordError(AgrbenchError):
    """Refuse a file that is not a record this version can read."""


class Inapplicable(AgrbenchError):
    """Skip a combination that does not exist, such as Bulyan with too many malicious clients."""
