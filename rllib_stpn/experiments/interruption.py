"""Whether somebody asked a run to end."""


class Interruption:
    """Whether somebody asked the run to end: ``signal`` is the number of SIGINT, SIGTERM or SIGPIPE, else None."""

    def __init__(self):
        self.signal: int | None = None

    @property
    def exit_code(self) -> int:
        """As shells count: 128 and the signal's number."""
        return 128 + (self.signal or 0)
