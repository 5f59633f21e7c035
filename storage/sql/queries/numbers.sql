-- name: list_numbers
-- All numbers, for the start.
SELECT * FROM numbers ORDER BY account_id, number;

-- name: find_number
-- One number of one account.
SELECT * FROM numbers WHERE account_id = $1 AND number = $2;

-- name: insert_numbers
-- Any count of them, from one JSON array: all or none. They are the account's from when they are added.
INSERT INTO numbers (number, account_id, type, country, carrier, powerpack_id, services, campaign_approved, verified,
    state, limits, added_ms, alias, application_id, rented_ms)
SELECT number, account_id, type, country, carrier, powerpack_id, services, campaign_approved, verified, state,
    limits, added_ms, alias, application_id, CASE WHEN rented_ms = 0 THEN added_ms ELSE rented_ms END
FROM jsonb_to_recordset($1::jsonb) AS row (number text, account_id text, type text, country text, carrier text,
    powerpack_id uuid, services text[], campaign_approved boolean, verified boolean, state text, limits jsonb,
    added_ms bigint, alias text, application_id text, rented_ms bigint);

-- name: update_number
-- All that may be edited of one, but for its powerpack.
UPDATE numbers SET type = $3, country = $4, carrier = $5, services = $6, campaign_approved = $7, verified = $8,
    state = $9, limits = $10
WHERE account_id = $1 AND number = $2;

-- name: label_number
-- What the account says of it.
UPDATE numbers SET alias = $3, application_id = $4 WHERE account_id = $1 AND number = $2;

-- name: give_number
-- To another account; its application stays behind. Not while it is in a powerpack.
UPDATE numbers SET account_id = $3, application_id = '' WHERE account_id = $1 AND number = $2 AND powerpack_id IS NULL;

-- name: add_number_to_powerpack
-- Unless another powerpack has it; adding it once more changes nothing.
UPDATE numbers SET powerpack_id = $3, added_ms = CASE WHEN powerpack_id = $3 THEN added_ms ELSE $4 END
WHERE account_id = $1 AND number = $2 AND (powerpack_id IS NULL OR powerpack_id = $3);

-- name: remove_number_from_powerpack
-- It stays with the account.
UPDATE numbers SET powerpack_id = NULL WHERE account_id = $1 AND number = $2 AND powerpack_id = $3;

-- name: delete_number
-- It is the account's no more.
DELETE FROM numbers WHERE account_id = $1 AND number = $2;
