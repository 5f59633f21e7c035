-- name: check_server
-- The settings without which a commit is no promise.
SELECT current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit;

-- name: read_lease
-- Who owns this database; no row before the first take-over.
SELECT epoch, owner, taken_ms FROM lease;

-- name: raise_epoch
-- The lease passes to a new owner: the next epoch.
INSERT INTO lease (epoch, owner, taken_ms) VALUES (1, $1, $2)
ON CONFLICT (only_row) DO UPDATE SET epoch = lease.epoch + 1, owner = excluded.owner, taken_ms = excluded.taken_ms
RETURNING epoch;

-- name: end_older_sessions
-- Tells the sessions of epochs before $1 to end, and says how many there still are.
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND CASE WHEN application_name ~ '^sendpool:[0-9]{1,18}$' THEN substr(application_name, 10)::bigint < $1 END;

-- name: count_sessions_of_epoch
-- How many sessions the owner of epoch $1 has.
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'sendpool:' || $1::bigint;
