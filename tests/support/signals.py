"""Signals for a command that runs in the process of the tests."""

import signal


def deliver(number: int) -> None:
    """Call the handler that the command installed, as Python does after a signal.

    A signal sent to a worker of pytest-xdist sometimes ends it. Tests with processes of their own send real
    ones.
    """
    handler = signal.getsignal(number)
    assert callable(handler), "no handler: the signal would end the process"
    handler(number, None)
