-- Numbers have an alias and an application of their own, and keep when they became the account's.

ALTER TABLE numbers
    ADD COLUMN alias text NOT NULL DEFAULT '',
    ADD COLUMN application_id text NOT NULL DEFAULT '',
    ADD COLUMN rented_ms bigint NOT NULL DEFAULT 0;
UPDATE numbers SET rented_ms = added_ms;
