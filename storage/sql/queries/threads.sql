-- Sticky threads: a table that follows memory, and the instant from which decisions must be replayed over it.

-- name: store_threads
-- Threads that were made or changed.
INSERT INTO sticky (powerpack_id, recipient, number, detour, used, last_ms)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::bigint[])
ON CONFLICT (powerpack_id, recipient) DO UPDATE
SET number = excluded.number, detour = excluded.detour, used = excluded.used, last_ms = excluded.last_ms;

-- name: drop_threads
-- Threads that are gone.
DELETE FROM sticky AS s USING unnest($1::uuid[], $2::text[]) AS gone (powerpack_id, recipient)
WHERE s.powerpack_id = gone.powerpack_id AND s.recipient = gone.recipient;

-- name: move_mark
-- The table knows all that was decided before $1.
INSERT INTO sticky_mark (replay_from_ms) VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET replay_from_ms = excluded.replay_from_ms;

-- name: read_mark
-- From when decisions are to be replayed; no row: all there are.
SELECT replay_from_ms FROM sticky_mark;

-- name: stream_threads
-- The living threads at $1, the longest silent first.
SELECT s.powerpack_id, s.recipient, s.number, s.detour, s.used, s.last_ms FROM sticky AS s
JOIN powerpacks AS p ON p.powerpack_id = s.powerpack_id AND s.last_ms + p.sticky_life_ms > $1
ORDER BY s.last_ms;

-- name: sweep_threads
-- Forget threads that were dormant for their powerpack's whole life at $1, and those of powerpacks that are gone.
DELETE FROM sticky AS s WHERE NOT EXISTS (
    SELECT FROM powerpacks AS p WHERE p.powerpack_id = s.powerpack_id AND s.last_ms + p.sticky_life_ms > $1
);
