"""systemd-logind: this machine is shut down, and we may delay it for a while. Needs dbus-fast (ckptd[logind]).

Sources: org.freedesktop.login1(5), 'Inhibit' and 'PrepareForShutdown'; logind.conf(5), InhibitDelayMaxSec, 5 s
unless it is set. A machine that Google stops is shut down this way too.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from ckptd.errors import UsageError
from ckptd.notices.event import LEAVE, Ears, Notice, Over, Unheard
from ckptd.notices.machine import Files

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

NAME = "logind"
ADDRESS = "DBUS_SYSTEM_BUS_ADDRESS"
SOCKET = "/run/dbus/system_bus_socket"
PATIENCE = 10.0
"""Seconds for an answer over the bus."""
LATER = 30.0
"""Seconds until a lock that was refused is asked for again."""
_LOGIN1 = "org.freedesktop.login1"
_MANAGER = "org.freedesktop.login1.Manager"
_PATH = "/org/freedesktop/login1"
_RULE = f"type='signal',sender='{_LOGIN1}',path='{_PATH}',interface='{_MANAGER}',member='PrepareForShutdown'"


class Logind:
    """A source that holds a delay lock: a shutdown waits until ``release``, or for InhibitDelayMaxSec."""

    name = NAME

    def __init__(self, address: str) -> None:
        """``address``: of the system bus, as D-Bus writes it."""
        self._address = address
        self._guard = threading.Lock()
        self._lock: int | None = None
        self._told: Notice | None = None

    def release(self) -> None:
        """All is saved: let the shutdown go on. May be called from any thread, and more than once."""
        with self._guard:
            lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def watch(self, ears: Ears, over: Over) -> None:
        """See ckptd.notices.event.Source."""
        try:
            asyncio.run(self._listen(ears, over))
        finally:
            self.release()

    async def _listen(self, ears: Ears, over: Over) -> None:
        bus = await _connect(self._address)
        try:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(over.fileno(), ended.set)
            said: asyncio.Queue[bool] = asyncio.Queue()
            bus.add_message_handler(lambda message: _take(message, said))
            await _call(
                bus,
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "AddMatch",
                _RULE,
            )
            most = await _property(bus, "InhibitDelayMaxUSec") / 1e6
            # Behind AddMatch, so that none is missed: one may have begun, or been called off, before we listened.
            said.put_nowait(bool(await _property(bus, "PreparingForShutdown")))
            await self._follow(bus, said, ended, most, ears)
            loop.remove_reader(over.fileno())
        finally:
            bus.disconnect()

    async def _follow(
        self, bus: MessageBus, said: asyncio.Queue[bool], ended: asyncio.Event, most: float, ears: Ears
    ) -> None:
        """Hold the lock and tell what comes, until it is over; raises Unheard if the bus goes."""
        gone = asyncio.ensure_future(cast("Any", bus).wait_for_disconnect())  # it has no types
        over = asyncio.ensure_future(ended.wait())
        try:
            while not over.done():
                if self._told is None and said.empty():
                    await self._hold(bus, ears)
                heard = asyncio.ensure_future(said.get())
                wait = LATER if self._lock is None and self._told is None else None
                await asyncio.wait({gone, over, heard}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if heard.done():
                    self._hear(heard.result(), most, ears)
                else:
                    heard.cancel()
                if gone.done() and not over.done():
                    raise Unheard("the system bus has closed the connection; it is opened again")
        finally:
            over.cancel()
            gone.cancel()
            await asyncio.gather(over, gone, return_exceptions=True)

    async def _hold(self, bus: MessageBus, ears: Ears) -> None:
        """Take the delay lock, unless we have it."""
        with self._guard:
            if self._lock is not None:
                return
        try:
            reply = await _call(
                bus,
                _LOGIN1,
                _PATH,
                _MANAGER,
                "Inhibit",
                "shutdown",
                "ckptd",
                "Training is being saved",
                "delay",
            )
        except Unheard as error:
            ears.trouble(f"a shutdown is heard but doesn't wait until all is saved: {error}")
            return
        with self._guard:
            self._lock = reply.unix_fds[int(reply.body[0])]
        ears.well()

    def _hear(self, begins: bool, most: float, ears: Ears) -> None:
        if begins:
            held = most if self._lock is not None else 0.0
            text = "this machine is being shut down (logind)"
            self._told = Notice(NAME, LEAVE, "shutdown", time.monotonic() + held, text)
            ears.tell(self._told)
        elif self._told is not None:
            told, self._told = self._told, None
            ears.tell(
                Notice(NAME, LEAVE, told.id, told.deadline, "the shutdown was called off", withdrawn=True)
            )


async def _connect(address: str) -> MessageBus:
    from dbus_fast.aio import MessageBus

    try:
        return await asyncio.wait_for(MessageBus(address, negotiate_unix_fd=True).connect(), PATIENCE)
    except asyncio.TimeoutError:
        raise Unheard(f"the system bus at {address} doesn't answer within {PATIENCE:g} s") from None
    except OSError as error:
        raise Unheard(f"the system bus at {address}: {(error.strerror or str(error)).lower()}") from None


async def _call(bus: MessageBus, to: str, path: str, interface: str, member: str, *words: str) -> Message:
    """The reply to a call with texts only; raises Unheard."""
    from dbus_fast import Message, MessageType

    signature = "s" * len(words)
    call = Message(
        destination=to, path=path, interface=interface, member=member, signature=signature, body=[*words]
    )
    try:
        reply = await asyncio.wait_for(bus.call(call), PATIENCE)
    except asyncio.TimeoutError:
        raise Unheard(f"{to} doesn't answer to {member} within {PATIENCE:g} s") from None
    if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
        raise Unheard(f"{to} refuses {member}: {reply.body[0] if reply and reply.body else 'no answer'}")
    return reply


async def _property(bus: MessageBus, name: str) -> Any:
    reply = await _call(bus, _LOGIN1, _PATH, "org.freedesktop.DBus.Properties", "Get", _MANAGER, name)
    return reply.body[0].value


def _take(message: Message, said: asyncio.Queue[bool]) -> None:
    if message.member == "PrepareForShutdown" and message.interface == _MANAGER and message.body:
        said.put_nowait(bool(message.body[0]))


def logind_source(env: Mapping[str, str], machine: Files) -> Logind:
    """The source; raises UsageError where dbus-fast isn't installed."""
    if find_spec("dbus_fast") is None:
        raise UsageError("--notices logind needs dbus-fast: pip install 'ckptd[logind]'")
    return Logind(env.get(ADDRESS) or f"unix:path={machine.path(SOCKET)}")
