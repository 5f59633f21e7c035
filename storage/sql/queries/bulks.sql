-- What is read of bulks: messages that came as one stream of lines. Every statement names the account.

-- name: list_stretches
-- Up to $4 stretches of a bulk from line $3 on, in order.
SELECT bulk_id, first_line, lines, account_id, digest, accepted, first_id, last_id, refused_lines, refused_codes,
    refused_errors, refused_retry_ms, at_ms
FROM bulk_stretches
WHERE bulk_id = $1::uuid AND account_id = $2 AND first_line >= $3
ORDER BY first_line LIMIT $4;

-- name: list_stretch_messages
-- The messages of a stretch, whose ids are all there are of the account from $2 to $3, in the order of their lines.
SELECT line, message_id, number, tier, segments, forecast_ms, binding_window FROM messages
WHERE account_id = $1 AND message_id >= $2::uuid AND message_id <= $3::uuid
ORDER BY message_id;
