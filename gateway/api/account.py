"""The account: what many clients ask for first, to see whether they are let in."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.api.call import Call, Reply
from gateway.api.errors import api_error
from resolver.model import AccountId
from storage.catalog import AccountRow


class Accounts:
    """GET /v1/Account/{auth_id}/."""

    def __init__(self, accounts: Mapping[AccountId, AccountRow]) -> None:
        self._accounts = accounts

    async def get(self, call: Call) -> Reply:
        account = self._accounts.get(call.account_id)
        if account is None:
            raise api_error("not_found")
        return call.json(
            {
                "account_type": "standard",
                "address": "",
                "auth_id": account.account_id,
                "auto_recharge": False,
                "billing_mode": "prepaid",
                "cash_credits": "0.00000",  # a gateway of one's own charges nothing
                "city": "",
                "name": account.name,
                "resource_uri": f"/v1/Account/{account.account_id}/",
                "state": "",
                "timezone": "UTC",
            }
        )
