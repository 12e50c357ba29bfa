"""What is done when a signal ends this program, for as long as a block lasts."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def when_ended(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` with the number of a signal that would end the program within the block, in place of that end.

    What is ignored, as by nohup, or handled already stays so, and only the main thread can ask for signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def called(number: int, frame: FrameType | None) -> None:
        act(number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, called)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
