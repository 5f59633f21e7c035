-- Accounts may have subaccounts; a token that was replaced stays good for a while; a deleted account keeps its row, since
-- callbacks of its messages are still signed with its token.

ALTER TABLE accounts
    ADD COLUMN main_id text REFERENCES accounts,
    ADD COLUMN former_sha256 bytea NOT NULL DEFAULT '',
    ADD COLUMN former_sealed bytea NOT NULL DEFAULT '',
    ADD COLUMN former_until_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN modified_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN deleted_ms bigint NOT NULL DEFAULT 0;
CREATE INDEX accounts_main ON accounts (main_id);
