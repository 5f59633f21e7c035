-- The journal's own statements. What is stored goes in by COPY; see storage/transaction.py.

-- name: claim_epoch
-- Tells this session which epoch it writes for.
SELECT set_config('sendpool.epoch', $1, false);

-- name: begin_owned
-- Begins a transaction of the journal and asks who may write, in one trip. A row: the epoch of this session does.
BEGIN; SELECT FROM lease WHERE epoch = current_setting('sendpool.epoch')::bigint;

-- name: read_epoch
-- Who may write.
SELECT epoch FROM lease;

-- name: read_backend
-- Which server process serves this connection. A pid is used again some day, together with its start it is not.
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- name: backend_lives
-- Whether the process $1, started at $2, is still there; as long as it is, its commit may still come.
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2);

-- name: end_backend
-- Tells the process $1, started at $2, to end.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2;

-- name: take_keys
-- Takes those idempotency keys that nobody has; the others are not answered.
INSERT INTO idempotency (account_id, key, body_hash, answer, created_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[])
ON CONFLICT DO NOTHING
RETURNING account_id, key;

-- name: find_key
-- The answer that was given for a key of an account.
SELECT account_id, key, body_hash, answer, created_ms FROM idempotency WHERE account_id = $1 AND key = $2;

-- The `holds_…` queries ask for one row of a batch. A transaction is stored whole or not at all, so one row decides;
-- (epoch, batch) tells it from a row that a former try or another batch has written.

-- name: holds_message
-- Whether batch $3 of epoch $2 stored the message $1.
SELECT EXISTS (SELECT FROM messages WHERE message_id = $1::uuid AND epoch = $2 AND batch = $3);

-- name: holds_handover
-- Whether batch $3 of epoch $2 stored a hand-over claimed at $1.
SELECT EXISTS (SELECT FROM handovers WHERE claimed_ms = $1 AND epoch = $2 AND batch = $3);

-- name: holds_fact
-- Whether batch $3 of epoch $2 stored a fact of the message $1.
SELECT EXISTS (SELECT FROM facts WHERE message_id = $1::uuid AND epoch = $2 AND batch = $3);

-- name: holds_outcome
-- Whether batch $3 of epoch $2 stored the end of the message $1.
SELECT EXISTS (SELECT FROM outcomes WHERE message_id = $1::uuid AND epoch = $2 AND batch = $3);

-- name: holds_body
-- Whether the request $1 is stored; its id is made once.
SELECT EXISTS (SELECT FROM bodies WHERE request_id = $1::uuid);

-- name: holds_stretch
-- Whether batch $4 of epoch $3 stored the lines of the bulk $1 that begin with line $2.
SELECT EXISTS (SELECT FROM bulk_stretches WHERE bulk_id = $1::uuid AND first_line = $2 AND epoch = $3 AND batch = $4);

-- name: holds_callback
-- Whether the callback $1 is stored; its id is made once.
SELECT EXISTS (SELECT FROM callbacks WHERE callback_id = $1::uuid);

-- name: holds_key
-- Whether the key $2 of account $1 was taken at $3 with the answer $4.
SELECT EXISTS (SELECT FROM idempotency WHERE account_id = $1 AND key = $2 AND created_ms = $3 AND answer = $4);

-- name: holds_carrier_ref
-- Whether the carrier's id $2 is stored for the message $3 as learned at $4.
SELECT EXISTS (
    SELECT FROM carrier_refs WHERE carrier = $1 AND carrier_ref = $2 AND message_id = $3::uuid AND at_ms = $4
);

-- name: holds_unmatched
-- Whether this unmatched report is stored; reports alike in everything stand for each other.
SELECT EXISTS (
    SELECT FROM unmatched_reports
    WHERE carrier = $1 AND carrier_ref = $2 AND kind = $3 AND code = $4 AND at_ms = $5
);
