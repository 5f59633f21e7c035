-- name: tell_change
-- News for who listens, when the transaction commits.
SELECT pg_notify('sendpool_catalog', $1);

-- name: ping
-- Is the connection still there?
SELECT 1;

-- name: list_accounts
-- All accounts, for the start.
SELECT account_id, name, token_sha256, token_sealed, enabled FROM accounts ORDER BY account_id;

-- name: find_account
-- One account.
SELECT account_id, name, token_sha256, token_sealed, enabled FROM accounts WHERE account_id = $1;

-- name: insert_account
-- Its token twice: to check by, and sealed to sign with.
INSERT INTO accounts (account_id, name, token_sha256, token_sealed, enabled, created_ms)
VALUES ($1, $2, $3, $4, true, $5);

-- name: enable_account
-- Shut an account out, or let it in again.
UPDATE accounts SET enabled = $2 WHERE account_id = $1;

-- name: list_applications
-- All applications, for the start.
SELECT application_id, account_id, name, message_url, message_method, created_ms
FROM applications ORDER BY account_id, created_ms, application_id;

-- name: find_application
-- One application of one account.
SELECT application_id, account_id, name, message_url, message_method, created_ms
FROM applications WHERE account_id = $1 AND application_id = $2;

-- name: insert_application
-- A new application.
INSERT INTO applications (application_id, account_id, name, message_url, message_method, created_ms)
VALUES ($2, $1, $3, $4, $5, $6);

-- name: update_application
-- All that may be edited of one.
UPDATE applications SET name = $3, message_url = $4, message_method = $5
WHERE account_id = $1 AND application_id = $2;

-- name: delete_application
-- Powerpacks that name it keep the name of nothing.
DELETE FROM applications WHERE account_id = $1 AND application_id = $2;

-- name: list_powerpacks
-- All powerpacks, for the start.
SELECT * FROM powerpacks ORDER BY account_id, created_ms, powerpack_id;

-- name: find_powerpack
-- One powerpack of one account.
SELECT * FROM powerpacks WHERE account_id = $1 AND powerpack_id = $2;

-- name: insert_powerpack
-- A new powerpack.
INSERT INTO powerpacks (account_id, powerpack_id, pool_id, name, sticky_sender, local_connect, priority, operator_types,
    sticky_at_limit, sticky_wait_ms, sticky_life_ms, patience_ms, on_unknown, application_type, application_id,
    pause, created_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: update_powerpack
-- All that may be edited of one; its pool and its birthday stay.
UPDATE powerpacks SET name = $3, sticky_sender = $4, local_connect = $5, priority = $6, operator_types = $7,
    sticky_at_limit = $8, sticky_wait_ms = $9, sticky_life_ms = $10, patience_ms = $11, on_unknown = $12,
    application_type = $13, application_id = $14, pause = $15
WHERE account_id = $1 AND powerpack_id = $2;

-- name: lock_powerpack
-- Nobody adds a number to it while it is being deleted.
SELECT 1 FROM powerpacks WHERE account_id = $1 AND powerpack_id = $2 FOR UPDATE;

-- name: free_numbers_of_powerpack
-- They stay with the account.
UPDATE numbers SET powerpack_id = NULL WHERE account_id = $1 AND powerpack_id = $2 RETURNING number;

-- name: delete_numbers_of_powerpack
-- They go with it.
DELETE FROM numbers WHERE account_id = $1 AND powerpack_id = $2 RETURNING number;

-- name: delete_powerpack
-- Once it has no numbers.
DELETE FROM powerpacks WHERE account_id = $1 AND powerpack_id = $2;

-- name: list_carriers
-- What was told of carriers, for the start.
SELECT carrier, paused, cancel_ms, cancelled_ms, cancelled, in_flight FROM carriers ORDER BY carrier;

-- name: find_carrier
-- What was told of one.
SELECT carrier, paused, cancel_ms, cancelled_ms, cancelled, in_flight FROM carriers WHERE carrier = $1;

-- name: pause_carrier
-- Let its messages stay, or leave again.
INSERT INTO carriers (carrier, paused) VALUES ($1, $2)
ON CONFLICT (carrier) DO UPDATE SET paused = excluded.paused;

-- name: order_cancel
-- What was accepted until $2 and waits for it is to be cancelled; each order has an instant of its own.
INSERT INTO carriers (carrier, cancel_ms) VALUES ($1, $2)
ON CONFLICT (carrier) DO UPDATE SET cancel_ms = greatest(carriers.cancel_ms + 1, excluded.cancel_ms)
RETURNING cancel_ms;

-- name: note_cancelled
-- The order $2 is done: $3 were cancelled, $4 had left.
UPDATE carriers SET cancelled_ms = $2, cancelled = $3, in_flight = $4 WHERE carrier = $1 AND cancelled_ms < $2;

-- name: list_numbers
-- All numbers, for the start.
SELECT * FROM numbers ORDER BY account_id, number;

-- name: find_number
-- One number of one account.
SELECT * FROM numbers WHERE account_id = $1 AND number = $2;

-- name: insert_numbers
-- Any count of them, from one JSON array: all or none.
INSERT INTO numbers (number, account_id, type, country, carrier, powerpack_id, services, campaign_approved, verified,
    state, limits, added_ms)
SELECT number, account_id, type, country, carrier, powerpack_id, services, campaign_approved, verified, state,
    limits, added_ms
FROM jsonb_to_recordset($1::jsonb) AS row (number text, account_id text, type text, country text, carrier text,
    powerpack_id uuid, services text[], campaign_approved boolean, verified boolean, state text, limits jsonb,
    added_ms bigint);

-- name: update_number
-- All that may be edited of one, but for its powerpack.
UPDATE numbers SET type = $3, country = $4, carrier = $5, services = $6, campaign_approved = $7, verified = $8,
    state = $9, limits = $10
WHERE account_id = $1 AND number = $2;

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
