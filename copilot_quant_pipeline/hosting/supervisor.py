"""The supervisor: the process of `ui` itself, which starts its programs, watches them and ends them.

Here: what is started again and when that is given up, listening for ticks, when somebody is told.
Not here: the programs (programs.py), what counts as a tick (ticks.py), whether a `ui` is up (presence.py), the words
of its alerts (troubles.py), how an end goes (ending.py).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from subprocess import Popen
from types import FrameType

from dagster import DagsterInstance

from copilot_quant_pipeline.alerts.cycle import tell_of
from copilot_quant_pipeline.alerts.incidents import Trouble
from copilot_quant_pipeline.alerts.messages import headline
from copilot_quant_pipeline.hosting.accounts import account_for
from copilot_quant_pipeline.hosting.ending import end_all
from copilot_quant_pipeline.hosting.presence import Note, remove_note, write_note
from copilot_quant_pipeline.hosting.programs import CODE_SERVER, Place, answers, programs, remove_folder, start
from copilot_quant_pipeline.hosting.ticks import PATIENCE, Heartbeat, Silence, listened, newest_good_tick
from copilot_quant_pipeline.hosting.troubles import DEATH, GIVEN_UP, SILENCE, death, given_up, silence
from copilot_quant_pipeline.ledger.endings import ENDED_WITH_UI, SERVER_DIED, runs_of_server, runs_starting
from copilot_quant_pipeline.settings import Settings

log = logging.getLogger(__name__)

# How often it looks at its programs, and for ticks, in seconds.
LOOK, LISTEN = 0.2, 5.0

# A program is started again at once, then after 2 and 4 s; this many deaths within so many seconds end everything.
MOST_DEATHS, WITHIN = 4, 600.0

# While the silence lasts, what waits for a channel is tried again this often, in seconds.
_TELL_AGAIN = 60.0

# How long the last message before giving up may take, in seconds.
_LAST_WORDS = 30.0

# How long another process may have the book of alerts before it is told without it, in seconds.
_PATIENCE_WITH_THE_BOOK = 20.0


def pause_before_restart(deaths: Sequence[float], now: float) -> float | None:
    """How many seconds to wait after the newest of `deaths` (instants of one clock, like `now`); None is to give up."""
    recent = sum(now - death < WITHIN for death in deaths)
    if recent >= MOST_DEATHS:
        return None
    return 0.0 if recent < 2 else float(2 ** (recent - 1))


@dataclass
class Program:
    """One program as it is now: its process, when it may be started, its deaths; instants by the monotonic clock."""

    name: str
    command: tuple[str, ...]
    process: Popen[bytes] | None = None
    not_before: float = 0.0
    deaths: list[float] = field(default_factory=list)


class GivenUpError(Exception):
    """A program dies again and again."""


@dataclass
class Supervisor:
    """Runs `ui` on one home until it is told to end; for the main thread.

    Attributes:
        patience: after so many seconds of awake time without a good tick somebody is told.
    """

    settings: Settings
    place: Place
    instance: DagsterInstance
    patience: float = PATIENCE
    _told_to_end: int = 0
    _bereft: set[str] = field(default_factory=set)

    def run(self) -> int:
        """Start everything and keep it up; the exit code: 0 where somebody ended it, 1 where it gave up."""
        self._programs = [Program(name, command) for name, command in programs(self.place).items()]
        self._heartbeat = Heartbeat(self.settings.heartbeat_url)
        self._silence = Silence(newest_good_tick(self.instance))
        self._listened_at = self._told_at = time.monotonic()
        self._note = Note(os.getpid(), self.settings.dagit_url, datetime.now(UTC), self.place.folder)
        write_note(self.settings.home, self._note)
        with self._signals():
            try:
                self._keep_up()
            except GivenUpError as error:
                self._give_up(str(error))
                return 1
            finally:
                self._end()
            remove_note(self.settings.home)
            return 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """While open, signals are counted, and nothing is interrupted by them; a second one ends without patience."""
        # A shell's background jobs ignore Ctrl-C, and are to be ended by it all the same; `nohup` means what it says.
        wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            wanted.append(signal.SIGHUP)
        before = {one: signal.signal(one, self._hear) for one in wanted}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _hear(self, _signal: int, _frame: FrameType | None) -> None:
        self._told_to_end += 1

    def _keep_up(self) -> None:
        while not self._told_to_end:
            for program in self._programs:
                self._keep(program)
            self._end_bereft_runs()
            if time.monotonic() - self._listened_at >= LISTEN:
                self._listen()
            time.sleep(LOOK)

    def _keep(self, program: Program) -> None:
        if program.process is None:
            # The others look for the code server as soon as they are there, and then only once a minute.
            ready = program.name == CODE_SERVER or answers(self.place.socket)
            if ready and time.monotonic() >= program.not_before:
                self._start(program)
        elif program.process.poll() is not None:
            process = program.process
            self._note_death(program, f"(process {process.pid}) has ended ({_how(process.returncode)})")

    def _start(self, program: Program) -> None:
        if program.name == CODE_SERVER:
            self.place.socket.unlink(missing_ok=True)  # or one that is being started would seem to answer
        try:
            program.process = start(self.place, program.command)
        except OSError as error:  # no memory, too many processes
            self._note_death(program, f"could not be started ({error.strerror})")

    def _note_death(self, program: Program, how: str) -> None:
        now = time.monotonic()
        program.process = None
        program.deaths.append(now)
        pause = pause_before_restart(program.deaths, now)
        ended = f"the {program.name} {how}"
        if program.name == CODE_SERVER:
            self._bereft |= self._under_way()
        if pause is None:
            raise GivenUpError(f"{ended} {MOST_DEATHS} times within {WITHIN / 60:.0f} minutes")
        program.not_before = now + pause
        log.warning("%s; it is started again", ended)
        self._tell(f"{DEATH}/{program.name}", death(program.name, ended, self.settings.now()))

    def _under_way(self) -> set[str]:
        try:
            return runs_of_server(self.instance, self.place.socket)
        except Exception:  # healing finds them later
            log.warning("the runs under way cannot be read (--verbose shows why)")
            log.debug("the runs under way cannot be read", exc_info=True)
            return set()

    def _end_bereft_runs(self) -> None:
        """Fail the runs that have died with a code server, once there is one that can start them again."""
        if self._bereft and answers(self.place.socket):
            runs, self._bereft = self._bereft, set()
            account_for(self.settings, self.instance, lambda: runs, SERVER_DIED)

    def _listen(self) -> None:
        now = time.monotonic()
        elapsed, self._listened_at = now - self._listened_at, now
        newest = self._silence.newest
        try:
            newest = newest_good_tick(self.instance)
        except Exception as error:  # whatever is wrong with Dagster's storage: to hear nothing is silence, too
            log.debug("ticks cannot be read: %s", error)
        was_silent = self._silence.seconds >= self.patience
        self._silence = listened(self._silence, newest, elapsed)
        if self._silence.seconds == 0:
            self._heartbeat.send()
        is_silent = self._silence.seconds >= self.patience
        if is_silent != was_silent or (is_silent and now - self._told_at >= _TELL_AGAIN):
            self._tell_of_silence(is_silent, first=is_silent != was_silent)

    def _tell_of_silence(self, is_silent: bool, *, first: bool) -> None:
        self._told_at = time.monotonic()
        silent = silence(self.patience, self.settings.now())
        if first:
            log.warning("%s", headline(silent) if is_silent else "schedules and sensors tick again")
            self._leave_note(silent.what if is_silent else None)
        # Without the book nobody would know that it was told: not every minute then.
        self._tell(SILENCE, *([silent] if is_silent else []), anyhow=first)

    def _tell(self, source: str, *troubles: Trouble, anyhow: bool = True) -> threading.Thread:
        """Send it as an alert, from another thread: a channel that does not answer holds up nothing here."""
        send = partial(_send, self.settings, source, troubles, anyhow=anyhow)
        telling = threading.Thread(target=send, name="telling", daemon=True)
        telling.start()
        return telling

    def _give_up(self, why: str) -> None:
        log.error("%s; everything is ended", why)
        self._leave_note(why, ended=True)
        telling = self._tell(GIVEN_UP, given_up(why, self.settings.now()))
        deadline = time.monotonic() + _LAST_WORDS
        while telling.is_alive() and time.monotonic() < deadline and not self._told_to_end:
            time.sleep(LOOK)

    def _leave_note(self, trouble: str | None, *, ended: bool = False) -> None:
        self._note = replace(self._note, trouble=trouble, ended=ended)
        with suppress(OSError):  # a full disk must not end what goes on without it
            write_note(self.settings.home, self._note)

    def _end(self) -> None:
        processes = {program.name: program.process for program in self._programs if program.process}
        end_all(processes, lambda: self._told_to_end > 1)
        account_for(self.settings, self.instance, self._left, ENDED_WITH_UI)
        remove_folder(self.place.folder)

    def _left(self) -> set[str]:
        return runs_of_server(self.instance, self.place.socket) | runs_starting(self.instance)


def _send(settings: Settings, source: str, troubles: Sequence[Trouble], *, anyhow: bool) -> None:
    try:
        tell_of(settings, source, troubles, _PATIENCE_WITH_THE_BOOK, anyhow=anyhow)
    except Exception as error:  # the supervisor's own words are printed, and in its note
        log.warning("no channel could be told (%s)", type(error).__name__)
        log.debug("no channel could be told", exc_info=True)


def _how(code: int) -> str:
    """How a process ended.

    >>> _how(-9), _how(1)
    ('SIGKILL', 'exit code 1')
    """
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
