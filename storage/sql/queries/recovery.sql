-- What a start reads to be what the last process was. $1 is an instant, $2 the least id to look at, unless said.

-- name: read_newest
-- The newest instant the journal knows, 0 when it is empty. It is later than that of every message's id, which may be
-- milliseconds after it was accepted: ids go on from there, and the messages of a stretch have all ids of their range.
WITH newest AS (
    SELECT greatest(
        (SELECT greatest(accepted_ms, ('x' || left(replace(message_id::text, '-', ''), 12))::bit(48)::bigint + 1)
            FROM messages ORDER BY message_id DESC LIMIT 1),
        (SELECT max(claimed_ms) FROM handovers),
        (SELECT replay_from_ms FROM sticky_mark),
        0) AS at_ms
)
SELECT greatest(newest.at_ms, (SELECT max(at_ms) FROM facts WHERE facts.at_ms >= newest.at_ms)) FROM newest;

-- name: read_newest_accepted
-- When the newest message was accepted, 0 when there is none. Facts of a start after a long outage are newer by days.
SELECT coalesce((SELECT accepted_ms FROM messages ORDER BY message_id DESC LIMIT 1), 0);

-- name: widen_sorts
-- Lets this transaction sort in memory what a day has.
SELECT set_config('work_mem', '256MB', true), set_config('enable_partitionwise_join', 'on', true);

-- name: settle_unsettled
-- Settles the attempts claimed since $1 that have no end as unknown, at $3 or when their claim was no longer good: that
-- is the latest they can have been handed over. Batch 0 of epoch $4.
WITH unsettled AS MATERIALIZED (
    SELECT h.carrier, h.claimed_ms, u.message_id, u.attempt, u.number, u.segments
    FROM handovers AS h
    CROSS JOIN LATERAL unnest(h.message_ids, h.attempts, h.numbers, h.segments)
        AS u (message_id, attempt, number, segments)
    WHERE h.claimed_ms >= $1
        AND NOT EXISTS (
            SELECT FROM facts AS f
            WHERE f.message_id = u.message_id AND f.attempt = u.attempt AND f.kind = ANY ($6::text[])
                AND f.at_ms >= $1 AND f.message_id >= $2::uuid
        )
)
INSERT INTO facts (message_id, account_id, kind, attempt, at_ms, handed_ms, number, carrier, carrier_ref, code, detail,
    segments, charged, epoch, batch)
SELECT u.message_id, m.account_id, 'unknown', u.attempt, $3, greatest($3, u.claimed_ms + $5), u.number, u.carrier, '',
    '', 'process_ended', u.segments, true, $4, 0
FROM unsettled AS u JOIN messages AS m ON m.message_id = u.message_id;

-- name: stream_charges
-- What was handed over since $1 and counts in the windows: by number and hour, the latest hour first. Unordered within
-- it, which costs a third of sorting here.
SELECT number, carrier, array_agg(handed_ms), array_agg(segments) FROM facts
WHERE charged AND handed_ms > $1 AND at_ms >= $1 AND message_id >= $2::uuid
GROUP BY number, carrier, handed_ms / 3600000
ORDER BY handed_ms / 3600000 DESC;

-- name: stream_decisions
-- What made, moved or used sticky threads since $1, in the order it happened: decisions, decisions made again, hand-overs
-- (those without a tier).
SELECT m.powerpack_id, m.recipient, m.number, m.tier, m.rules, m.accepted_ms AS at_ms, m.message_id, false AS is_handed
FROM messages AS m
WHERE m.accepted_ms >= $1 AND m.message_id >= $2::uuid AND m.number IS NOT NULL AND m.powerpack_id IS NOT NULL
UNION ALL
SELECT m.powerpack_id, m.recipient, f.number, f.detail, m.rules, f.at_ms, f.message_id, false
FROM facts AS f JOIN messages AS m ON m.message_id = f.message_id
WHERE f.kind = 'rebound' AND f.at_ms >= $1 AND f.number IS NOT NULL AND m.powerpack_id IS NOT NULL
UNION ALL
SELECT m.powerpack_id, m.recipient, f.number, '', '', f.handed_ms, f.message_id, true
FROM facts AS f JOIN messages AS m ON m.message_id = f.message_id
WHERE f.handed_ms IS NOT NULL AND f.at_ms >= $1 AND f.number IS NOT NULL AND m.powerpack_id IS NOT NULL
ORDER BY at_ms, is_handed, message_id;

-- name: stream_open
-- Messages with ids from $1 on that have neither ended nor been sent, in the order they were accepted.
SELECT message_id, request_id, account_id, powerpack_id, recipient, number, tier, rules, binding_window, segments,
    service, priority, reference, line, accepted_ms, expires_ms, forecast_ms, refusal
FROM messages AS m
WHERE m.message_id >= $1::uuid AND m.refusal = ''
    AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.message_id = m.message_id AND o.message_id >= $1::uuid)
    AND NOT EXISTS (
        SELECT FROM facts AS f
        WHERE f.message_id = m.message_id AND f.kind = ANY ($2::text[]) AND f.message_id >= $1::uuid
    )
ORDER BY m.epoch, m.batch, m.message_id;
