"""Placeholders in a carrier's template: `"{to}"` becomes the recipient, in a body, a header or the URL.

A template is taken apart once, at start. Filling it in replaces whole values of a parsed structure, never pieces of
JSON or of an encoded form; nothing a message holds is ever looked at for placeholders itself.

* A value that is one placeholder and nothing else keeps its type: `"{validity_s}"` is a number in JSON.
* `{{` and `}}` are braces.
* What names a setting that is not set (`{application}`, `{report_url}`) is left out, with its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.carriers.carrier import Outbound
from gateway.fields import BadSetting, nearest

Fill = Callable[[Outbound, int], object]
"""A value for one message. The integer is now, in milliseconds since 1970."""

Encode = Callable[[str], str]

OF_MESSAGES: Final = (
    "from", "to", "from_digits", "to_digits", "text", "reference", "attempt", "segments", "validity_s", "expires_at",
)  # fmt: skip
"""Placeholders whose value is the message's; all others are settings of the carrier."""

DEPTH_MAX: Final = 16
_TOKEN = re.compile(r"\{\{|\}\}|\{([a-z_]*)\}|[{}]")


def fills_of_messages(validity_s_min: int, validity_s_max: int) -> dict[str, Fill]:
    """What each placeholder of a message gives, by name; the validity is kept within what the carrier takes."""

    def validity_s(outbound: Outbound, _now_ms: int) -> int:
        return min(max(validity_s_min, outbound.remaining_ms // 1_000), validity_s_max)

    def expires_at(outbound: Outbound, now_ms: int) -> str:
        moment = datetime.fromtimestamp(now_ms // 1_000 + validity_s(outbound, now_ms), UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    return {
        "from": lambda outbound, _: outbound.number,
        "to": lambda outbound, _: outbound.recipient,
        "from_digits": lambda outbound, _: outbound.number.removeprefix("+"),
        "to_digits": lambda outbound, _: outbound.recipient.removeprefix("+"),
        "text": lambda outbound, _: outbound.text,
        "reference": lambda outbound, _: outbound.message_id,
        "attempt": lambda outbound, _: outbound.attempt,
        "segments": lambda outbound, _: outbound.segments,
        "validity_s": validity_s,
        "expires_at": expires_at,
    }


class Placeholders:
    """Compiles texts and values; `settings` are those of the carrier a template may name, "" where one is not set."""

    def __init__(self, settings: Mapping[str, str], fills: Mapping[str, Fill]) -> None:
        self._settings = settings
        self._fills = fills

    def compile(self, value: object, place: str, *, depth: int = 0) -> Fill | None:
        """Compile what stands in a body: text, number, boolean, list or table; None where it is left out.

        Raises BadSetting, naming `place`.
        """
        if depth > DEPTH_MAX:
            raise BadSetting(f"{place}: is nested too deeply")
        if isinstance(value, str):
            text = self.compile_text(value, place)
            return constant(text) if isinstance(text, str) else text
        if isinstance(value, bool | int | float):
            return constant(value)
        if isinstance(value, Mapping):
            return self._compile_table(value, place, depth)
        if isinstance(value, Sequence):
            return self._compile_list(value, place, depth)
        raise BadSetting(f"{place}: must be a text, a number, true or false, a list or a table")

    def _compile_table(self, table: Mapping[str, object], place: str, depth: int) -> Fill:
        compiled = [(key, self.compile(value, f"{place}.{key}", depth=depth + 1)) for key, value in table.items()]
        parts = [(key, fill) for key, fill in compiled if fill is not None]
        return lambda outbound, now_ms: {key: fill(outbound, now_ms) for key, fill in parts}

    def _compile_list(self, values: Sequence[object], place: str, depth: int) -> Fill:
        compiled = [self.compile(value, f"{place}.{i}", depth=depth + 1) for i, value in enumerate(values)]
        parts = [fill for fill in compiled if fill is not None]
        return lambda outbound, now_ms: [fill(outbound, now_ms) for fill in parts]

    def compile_text(
        self, text: str, place: str, *, encode: Encode | None = None, without: Sequence[str] = ()
    ) -> str | Fill | None:
        """Compile a text: constant, or to be filled in; None where it is left out.

        `encode` is applied to what is filled in and not to the template; `without` may not be named. Raises BadSetting.
        """
        pieces: list[str | Fill] = []
        at = 0
        for token in _TOKEN.finditer(text):
            pieces.append(text[at : token.start()])
            at = token.end()
            if token[0] in ("{{", "}}"):
                pieces.append(token[0][0])
                continue
            piece = self._look_up(token, place, without)
            if piece == "":
                return None
            pieces.append(encode(piece) if encode is not None and isinstance(piece, str) else piece)
        pieces.append(text[at:])
        parts = _folded(pieces)
        if not parts:
            return ""
        if len(parts) == 1:
            only = parts[0]
            return only if isinstance(only, str) or encode is None else _joined([only], encode)
        return _joined(parts, encode)

    def _look_up(self, token: re.Match[str], place: str, without: Sequence[str]) -> str | Fill:
        name = token[1]
        if name is None:
            raise BadSetting(f"{place}: a brace stands alone; write {{{{ or }}}} for one")
        if name in without:
            raise BadSetting(f"{place}: {{{name}}} may not stand here")
        if name in self._fills:
            return self._fills[name]
        if name not in self._settings:
            known = [*self._fills, *self._settings]
            raise BadSetting(f"{place}: there is no placeholder {{{name}}}{nearest(name, known)}")
        return self._settings[name]


def constant(value: object) -> Fill:
    """Give the same for every message."""
    return lambda _outbound, _now_ms: value


def _folded(pieces: Sequence[str | Fill]) -> list[str | Fill]:
    """Texts that stand side by side become one, empty ones none."""
    parts: list[str | Fill] = []
    for piece in pieces:
        if isinstance(piece, str) and parts and isinstance(parts[-1], str):
            parts[-1] = parts[-1] + piece
        elif piece != "":
            parts.append(piece)
    return parts


def _joined(parts: Sequence[str | Fill], encode: Encode | None) -> Fill:
    coded = encode or _as_it_is

    def fill(outbound: Outbound, now_ms: int) -> str:
        return "".join([part if isinstance(part, str) else coded(str(part(outbound, now_ms))) for part in parts])

    return fill


def _as_it_is(text: str) -> str:
    return text
