"""Form bodies (application/x-www-form-urlencoded), turned into the JSON object they stand for.

No SDK sends one, curl does unless it is told otherwise. Every route reads one kind of body, so a form means what the
same keys mean in JSON, where integers and booleans may be texts anyhow.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

import orjson

from gateway.api.errors import api_error, invalid

FORM_VALUES_MAX: Final = 100
STRUCTURED: Final = frozenset({"number_priority", "operator_types", "messages"})
"""Keys whose values are lists or objects: in a form their JSON."""
NAME_SHOWN_MAX: Final = 64


def form_as_json(body: bytes) -> bytes:
    """Give a form's JSON; what is JSON already (`curl -d '{…}'` calls it a form) stays. Raises ApiError."""
    written = body.strip()
    if not written or written[:1] in b'{["':
        return body
    try:
        pairs = parse_qsl(written.decode(), keep_blank_values=True, max_num_fields=FORM_VALUES_MAX, errors="strict")
    except UnicodeDecodeError as error:
        raise invalid("the form", "is not written in UTF-8") from error
    except ValueError as error:
        raise invalid("the form", f"has more than {FORM_VALUES_MAX} values") from error
    values: dict[str, object] = {}
    for name, value in pairs:
        if name in values:  # of two recipients neither may be dropped silently
            raise invalid(_shown(name), "is given more than once in the form")
        values[name] = _structured(name, value) if name in STRUCTURED else value
    return orjson.dumps(values)


def _structured(name: str, written: str) -> object:
    if not written:
        return None
    try:
        value: object = orjson.loads(written)
    except orjson.JSONDecodeError as error:
        raise api_error("invalid_json", f"invalid json data sent in raw POST: {name} in the form: {error}") from error
    return value


def _shown(name: str) -> str:
    return ascii(name[:NAME_SHOWN_MAX])
