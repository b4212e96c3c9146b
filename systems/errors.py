"""Errors that are the user's to mend: the command line prints them as one line and exits with code 2."""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to put it right, in one line."""


class UnknownName(UserError):
    """A name that nothing is registered under; the message suggests the nearest ones."""


class BudgetTooSmall(UserError):
    """The budget cannot hold even the smallest message that a system can send."""


class CheckpointError(UserError):
    """A weight file that is missing, truncated, altered or of another shape."""


class MissingDependency(UserError):
    """An optional package that the request needs is not installed."""


class AuditError(RuntimeError):
    """A system broke the rules of the comparison (power, budget, finite symbols); never a warning."""
