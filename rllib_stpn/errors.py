"""The error a user can do something about."""


class UsageError(ValueError):
    """A wrong input: the message names where it stands, what was given and what is allowed.

    The command line prints it as one line and exits with code 2; everything else is a bug and keeps its
    traceback.
    """


def one_of(where: str, given: object, allowed) -> UsageError:
    """Returns the error for a value that is not among the allowed ones.

    Args:
        where: What the value was given for, as the user wrote it, e.g. ``"stpn: normalize"``.
        given: The value.
        allowed: The values that would have been right.
    """
    return UsageError(f"{where}: got {given!r}, allowed are {', '.join(repr(a) for a in allowed)}")
