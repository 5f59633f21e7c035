"""What the catalog does not allow, in the API's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resolver.model import NumberType
from storage.catalog import NameTaken, NotFound, NumberTaken, TypeTaken


class EditRefused(Exception):
    """The catalog does not allow this edit; `code` is one of the API's."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code, self.detail = code, detail


@contextmanager
def refusals(number_type: NumberType = NumberType.LONG_CODE) -> Iterator[None]:
    """Turn what the catalog does not allow into the API's words."""
    try:
        yield
    except NameTaken as error:
        raise EditRefused("name_taken") from error
    except NumberTaken as error:
        raise EditRefused("number_in_use") from error
    except TypeTaken as error:
        is_short = number_type is NumberType.SHORT_CODE
        raise EditRefused("short_code_limit" if is_short else "toll_free_limit") from error
    except NotFound as error:
        raise EditRefused("not_found") from error
