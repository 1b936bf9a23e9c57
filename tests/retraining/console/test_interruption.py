"""A command that was interrupted says what it had changed by then, and nothing that isn't so."""

from __future__ import annotations

import pytest

from ai.ml.core.errors import Busy
from ai.ml.retraining.console.exit_codes import INTERRUPTED, run_command
from ai.ml.retraining.console.interruption import lasting_change


def nothing_done() -> None:
    pass


def within() -> None:
    with lasting_change("promotion", "m"):
        raise KeyboardInterrupt


def once_done() -> None:
    with lasting_change("promotion", "m") as settle:
        settle("m: 0123 is the champion")


def failed() -> None:
    try:
        with lasting_change("promotion", "m"):
            raise Busy("somebody else was first")
    except Busy:
        pass


def failed_after_one() -> None:
    once_done()
    failed()


def failed_afterwards() -> None:
    try:
        with lasting_change("rollback", "m") as settle:
            settle("m: 4567 is the champion again")
            raise OSError("the terminal is gone")
    except OSError:
        pass


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (nothing_done, "nothing was promoted"),
        (within, "the promotion was under way; bundlegate show m says what is live"),
        (once_done, "m: 0123 is the champion"),
        (failed, "nothing was promoted"),
        (failed_after_one, "m: 0123 is the champion"),
        (failed_afterwards, "m: 4567 is the champion again"),
    ],
)
def test_the_last_words_are_true(steps: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        assert callable(steps)
        steps()
        raise KeyboardInterrupt

    for _ in range(2):  # the command before leaves nothing to this one
        assert run_command(command) == INTERRUPTED
        assert capsys.readouterr().err == f"interrupted: {said}\n"
    assert run_command(lambda: 0) == 0
    assert capsys.readouterr().err == ""
