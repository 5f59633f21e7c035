-- What is read of messages. An account's own questions name the account in every statement.

-- name: find_message
-- One message of one of these accounts.
SELECT message_id, request_id, account_id, powerpack_id, recipient, number, tier, rules, binding_window, segments,
    service, priority, reference, line, accepted_ms, expires_ms, forecast_ms, refusal
FROM messages WHERE account_id = ANY ($1::text[]) AND message_id = $2;

-- name: messages_by_id
-- Messages by id, whosever they are: for what carriers report.
SELECT message_id, request_id, account_id, powerpack_id, recipient, number, tier, rules, binding_window, segments,
    service, priority, reference, line, accepted_ms, expires_ms, forecast_ms, refusal
FROM messages WHERE message_id = ANY ($1::uuid[]);

-- name: list_messages
-- A page of an account's messages, newest first, beside how many there are, counted up to $16. Looks through at most $17
-- of those whose ids lie in the range, so a filter that few messages pass costs a bounded time. A filter that is NULL
-- passes everything. Without a page there is still one row, for the count.
WITH found AS (
    SELECT message_id FROM (
        SELECT * FROM messages
        WHERE account_id = $1 AND message_id >= $2::uuid AND message_id < $3::uuid
        ORDER BY message_id DESC LIMIT $17
    ) AS m
    WHERE ($4::bigint IS NULL OR accepted_ms >= $4) AND ($5::bigint IS NULL OR accepted_ms < $5)
        AND ($6::uuid IS NULL OR powerpack_id = $6)
        AND ($7::text IS NULL OR recipient = $7)
        AND ($8::text IS NULL OR number = $8)
        AND ($9::text IS NULL OR service = $9)
        AND ($10::text IS NULL OR reference = $10)
        AND ($11::text IS NULL OR EXISTS (
            SELECT FROM outcomes AS o WHERE o.message_id = m.message_id AND o.code = $11))
        AND ($12::text IS NULL OR $12 = coalesce(
            (SELECT o.state FROM outcomes AS o WHERE o.message_id = m.message_id),
            CASE WHEN EXISTS (
                SELECT FROM facts AS f WHERE f.message_id = m.message_id AND f.kind = ANY ($13::text[])
            ) THEN 'sent' ELSE 'queued' END))
    ORDER BY message_id DESC LIMIT $16
)
SELECT page.*, total.total FROM (SELECT count(*) AS total FROM found) AS total
LEFT JOIN LATERAL (
    SELECT message_id, request_id, account_id, powerpack_id, recipient, number, tier, rules, binding_window, segments,
        service, priority, reference, line, accepted_ms, expires_ms, forecast_ms, refusal
    FROM messages
    WHERE message_id IN (SELECT message_id FROM found ORDER BY message_id DESC LIMIT $14 OFFSET $15)
    ORDER BY message_id DESC
) AS page ON true
ORDER BY page.message_id DESC;

-- name: count_destinations
-- To which area codes an account wrote, of its newest $4 messages since $2; $3: of one powerpack only.
SELECT left(recipient, 5) AS prefix, count(*) AS messages
FROM (
    SELECT recipient, powerpack_id FROM messages
    WHERE account_id = $1 AND message_id >= $2::uuid
    ORDER BY message_id DESC LIMIT $4
) AS m
WHERE recipient LIKE '+1%' AND ($3::uuid IS NULL OR powerpack_id = $3)
GROUP BY 1;

-- name: bodies_by_request
-- What requests said; their texts are kept for a shorter time than their messages.
SELECT request_id, account_id, text, callback_url, callback_method, patience_ms, validity_ms, on_unknown, log,
    requester_ip
FROM bodies WHERE request_id = ANY ($1::uuid[]);

-- name: facts_by_message
-- What happened to messages, in order.
SELECT message_id, account_id, kind, attempt, at_ms, handed_ms, number, carrier, carrier_ref, code, detail, segments,
    charged
FROM facts WHERE message_id = ANY ($1::uuid[])
ORDER BY epoch, batch, fact_no;

-- name: outcomes_by_message
-- How messages ended, those that have.
SELECT message_id, account_id, state, code, at_ms FROM outcomes WHERE message_id = ANY ($1::uuid[]);

-- name: find_refs
-- Which messages the ids $2 of carrier $1 belong to; where it used one twice, the newest.
SELECT DISTINCT ON (carrier_ref) carrier_ref, message_id FROM carrier_refs
WHERE carrier = $1 AND carrier_ref = ANY ($2::text[])
ORDER BY carrier_ref, at_ms DESC;

-- name: list_unreported
-- Up to $4 messages that were sent between $1 and $2, have the next ids after $3, and have not ended.
SELECT DISTINCT f.message_id FROM facts AS f
WHERE f.kind = ANY ($5::text[]) AND f.at_ms >= $1 AND f.at_ms < $2 AND f.message_id > $3::uuid
    AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.message_id = f.message_id)
ORDER BY f.message_id LIMIT $4;

-- name: list_unmatched
-- Reports nobody knows yet, those learned since $1.
SELECT carrier, carrier_ref, kind, code, at_ms FROM unmatched_reports WHERE at_ms >= $1 ORDER BY at_ms;
