-- name: tell_change
-- News for who listens, when the transaction commits.
SELECT pg_notify('sendpool_catalog', $1);

-- name: ping
-- Is the connection still there?
SELECT 1;
