-- Callbacks owed to accounts.

-- name: load_owed
-- Up to $1 callbacks that are due by $2, in order, beyond the one that was due at $3 with the id $4.
SELECT callback_id, account_id, message_id, sequence, url, method, params, created_ms, next_ms, tries
FROM callbacks
WHERE state = 'owed' AND next_ms <= $2 AND (next_ms, callback_id) > ($3, $4::uuid)
ORDER BY next_ms, callback_id LIMIT $1;

-- name: record_callbacks
-- What came of tries; writing it twice changes nothing.
UPDATE callbacks AS c SET state = r.state, tries = r.tries, next_ms = r.next_ms, last_result = r.last_result
FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[], $5::text[])
    AS r (callback_id, state, tries, next_ms, last_result)
WHERE c.callback_id = r.callback_id;

-- name: list_callbacks
-- A page of an account's callbacks, newest first.
SELECT callback_id, account_id, message_id, sequence, url, method, params, created_ms, next_ms, state, tries,
    last_result
FROM callbacks WHERE account_id = $1 ORDER BY callback_id DESC LIMIT $2 OFFSET $3;
