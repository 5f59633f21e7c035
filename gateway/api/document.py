"""The API's own description: GET /openapi.yaml, one OpenAPI document.

It is written by hand in `openapi/`, a file for each resource, so that what belongs together stands together and several
people can write at once. A file has `paths`, and what of the components is its own; here they become one document, as
text, so that comments stay and nobody needs to read YAML while the gateway runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from gateway.api.call import Call, Reply
from gateway.api.router import Access, Route

FOLDER: Final = Path(__file__).parent / "openapi"
HEAD: Final = "head.yaml"
COMPONENTS: Final = ("securitySchemes", "parameters", "headers", "responses", "schemas")
CONTENT_TYPE: Final = "application/yaml"


def document_routes() -> list[Route]:
    """Give the route at which the document is served, to everybody."""
    return [Route("GET", "/openapi.yaml", Access.OPEN, _get)]


async def _get(_: Call) -> Reply:
    return Reply(document(), content_type=CONTENT_TYPE)


@cache
def document() -> bytes:
    """Give the whole document. It is read once, some 50 KB."""
    resources = sorted(path for path in FOLDER.glob("*.yaml") if path.name != HEAD)
    return joined(path.read_text("utf-8") for path in (FOLDER / HEAD, *resources)).encode()


def joined(texts: Iterable[str]) -> str:
    """Make one document of several that each have some of its sections.

    `paths` of all follow each other, and so does each kind of component; what else there is stays as it is.
    """
    sections: dict[str, list[str]] = {}
    for text in texts:
        section = sections.setdefault("", [])
        for line in text.splitlines():
            if line[:1].isalpha():
                name = line.partition(":")[0]
                section = sections.setdefault(name, [])
                if line != f"{name}:" or not section:
                    section.append(line)
            elif line[:1] != "#":
                section.append(line)
    components = [line for name in COMPONENTS for line in sections.pop(name, [])]
    lines = [line for section in sections.values() for line in section]
    return "\n".join([*lines, "components:", *(f"  {line}" if line else "" for line in components), ""])
