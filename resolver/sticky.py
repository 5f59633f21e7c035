"""Sticky Sender: which number of a powerpack a recipient hears from; expires, bounded.

Invariants
* Threads stand in the order of their latest message, so the oldest come first and are the first to make room.
* A thread's `number` is the recipient's; `detour` stands in while that one is at its limit or its link is down.
* Every change is in `changed` until it has been handed to the write-behind.

Source of the rule: the Powerpack introduction ("the same subscriber always hears from the same number"); its life of
15 days: Plivo's FAQ; detours: ours.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from resolver.model import E164, Message, PowerpackId, Thread, ThreadState, Tier

MADE: Final = ThreadState(E164(""), None, False)
"""What was before a thread that a decision made: none."""


class ThreadRow(NamedTuple):
    """A changed thread, for the table; `gone`: it no longer exists."""

    powerpack_id: PowerpackId
    recipient: E164
    number: E164
    detour: E164 | None
    used: bool
    last_ms: int
    gone: bool


class Threads:
    """The threads of one powerpack; at most `most`, the longest silent go first. All calls O(1) on average."""

    __slots__ = ("_by_recipient", "changed", "most", "powerpack_id")

    def __init__(self, powerpack_id: PowerpackId, *, most: int) -> None:
        self.powerpack_id = powerpack_id
        self.most = most
        self._by_recipient: dict[E164, Thread] = {}
        self.changed: dict[E164, None] = {}

    def __len__(self) -> int:
        return len(self._by_recipient)

    def find(self, recipient: E164) -> Thread | None:
        """The thread, living or not; the caller compares `last_ms` with the powerpack's life."""
        return self._by_recipient.get(recipient)

    def follow(
        self, recipient: E164, number: E164, tier: Tier, *, now_ms: int, life_ms: int
    ) -> tuple[Thread, ThreadState | None]:
        """Take in one decision; answers the thread, and what it was before where the decision made or changed it.

        By its thread: renewed, a detour ends. A detour: noted beside the number. Any other tier points the thread
        there. The same function replays decisions after a restart.
        """
        threads = self._by_recipient
        thread = threads.pop(recipient, None)
        before: ThreadState | None = None
        if thread is None:
            thread, before = Thread(number, None, False, now_ms), MADE
        elif thread.last_ms + life_ms <= now_ms:
            before = MADE
            thread.number, thread.detour, thread.used, thread.last_ms = number, None, False, now_ms
        else:
            thread.last_ms = now_ms
            if tier is Tier.DETOUR:
                if thread.detour != number:
                    before = ThreadState(thread.number, thread.detour, thread.used)
                    thread.detour = number
            elif tier is not Tier.STICKY or thread.number != number or thread.detour is not None:
                before = ThreadState(thread.number, thread.detour, thread.used)
                thread.used = thread.used and thread.number == number
                thread.number, thread.detour = number, None
        threads[recipient] = thread
        self.changed[recipient] = None
        if len(threads) > self.most:
            self._make_room(now_ms - life_ms)
        return thread, before

    def unfollow(self, recipient: E164, thread: Thread, before: ThreadState) -> None:
        """Take a decision that was not stored out again, unless the thread has gone on since."""
        if self._by_recipient.get(recipient) is not thread:
            return
        self.changed[recipient] = None
        if before == MADE:
            del self._by_recipient[recipient]
        else:
            thread.number, thread.detour, thread.used = before

    def mark_used(self, thread: Thread, recipient: E164) -> None:
        """Something was handed over on it: from now on it moves only when its number is gone."""
        if not thread.used:
            thread.used = True
            self.changed[recipient] = None

    def move(self, recipient: E164, number: E164) -> None:
        """Point an existing thread at another number; its age stays."""
        thread = self._by_recipient.get(recipient)
        if thread is not None:
            thread.number, thread.detour, thread.used = number, None, False
            self.changed[recipient] = None

    def point(self, recipient: E164, number: E164, *, now_ms: int, life_ms: int) -> None:
        """By hand: from now on the recipient hears from this number, as if he had heard from it before.

        A thread of its own, so that a decision of before which is not stored cannot take it back. What waits by the
        former one leaves as it was decided; where it is decided again, that does not move this thread.
        """
        _detach(self._by_recipient.pop(recipient, None))
        self._by_recipient[recipient] = Thread(number, None, True, now_ms)
        self.changed[recipient] = None
        if len(self._by_recipient) > self.most:
            self._make_room(now_ms - life_ms)

    def forget(self, recipient: E164) -> None:
        """By hand: the recipient is as one nobody has written to. What waits by the thread leaves as it was decided."""
        thread = self._by_recipient.pop(recipient, None)
        if thread is not None:
            _detach(thread)
            self.changed[recipient] = None

    def recipients(self) -> list[E164]:
        """All of them, the longest silent first; eight bytes each."""
        return list(self._by_recipient)

    def restore(self, recipient: E164, thread: Thread) -> None:
        """Put back what was stored, oldest first."""
        self._by_recipient[recipient] = thread

    def take_changed(self, most: int) -> list[ThreadRow]:
        """Up to `most` changed threads, and forget that they changed."""
        rows: list[ThreadRow] = []
        while self.changed and len(rows) < most:
            recipient, _ = self.changed.popitem()
            thread = self._by_recipient.get(recipient)
            if thread is None:
                rows.append(ThreadRow(self.powerpack_id, recipient, E164(""), None, False, 0, True))
            else:
                rows.append(
                    ThreadRow(
                        self.powerpack_id, recipient, thread.number, thread.detour, thread.used, thread.last_ms, False
                    )
                )
        return rows

    def _make_room(self, dead_before_ms: int) -> None:
        """Let the longest silent go: those that are too many, and a few more of the oldest if they are dead anyway.

        A thousandth at a time where there are many, since to find the first of a dictionary costs what was taken
        out of its front before.
        """
        threads = self._by_recipient
        surplus = len(threads) - self.most + self.most // 1_000
        for place, recipient in enumerate(list(islice(threads, surplus + 1))):
            if place < surplus or threads[recipient].last_ms <= dead_before_ms:
                del threads[recipient]
                self.changed[recipient] = None


def _detach(thread: Thread | None) -> None:
    """Let what waits by a thread wait without one: it neither moves nor undoes what took the thread's place."""
    if thread is not None and thread.waiting is not None:
        for message in thread.waiting:
            message.thread = None
        thread.waiting = None


def join_thread(message: Message) -> None:
    """Count a message among what waits by its thread."""
    thread = message.thread
    if thread is not None:
        if thread.waiting is None:
            thread.waiting = [message]
        else:
            thread.waiting.append(message)


def leave_thread(message: Message) -> None:
    """It waits no longer; its thread is remembered for the case that it is tried again."""
    thread = message.thread
    if thread is not None and thread.waiting is not None:
        thread.waiting.remove(message)
        if not thread.waiting:
            thread.waiting = None
