"""Durability: PostgreSQL, the journal and all that is read back. Knows the resolver's words, not the gateway's."""
