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
-- They go with it, but for short codes: nobody gives one up by the way.
DELETE FROM numbers WHERE account_id = $1 AND powerpack_id = $2 AND type <> 'shortcode' RETURNING number;

-- name: delete_powerpack
-- Once it has no numbers.
DELETE FROM powerpacks WHERE account_id = $1 AND powerpack_id = $2;
