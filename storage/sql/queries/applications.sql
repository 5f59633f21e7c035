-- name: list_applications
-- All applications, for the start.
SELECT * FROM applications ORDER BY account_id, created_ms, application_id;

-- name: find_application
-- One application of one account.
SELECT * FROM applications WHERE account_id = $1 AND application_id = $2;

-- name: insert_application
-- A new application.
INSERT INTO applications (account_id, application_id, name, message_url, message_method, answer_url, answer_method,
    hangup_url, hangup_method, fallback_url, fallback_method, is_number_default, is_endpoint_default, log_inbound,
    is_public, created_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: update_application
-- All that may be edited of one.
UPDATE applications SET name = $3, message_url = $4, message_method = $5, answer_url = $6, answer_method = $7,
    hangup_url = $8, hangup_method = $9, fallback_url = $10, fallback_method = $11, is_number_default = $12,
    is_endpoint_default = $13, log_inbound = $14, is_public = $15
WHERE account_id = $1 AND application_id = $2;

-- name: end_number_default
-- Another one is to be what new numbers of the account get.
UPDATE applications SET is_number_default = false
WHERE account_id = $1 AND application_id <> $2 AND is_number_default RETURNING application_id;

-- name: delete_application
-- Numbers that name it keep the name of nothing: no other will ever have it.
DELETE FROM applications WHERE account_id = $1 AND application_id = $2;

-- name: detach_application
-- Powerpacks that had it have none.
UPDATE powerpacks SET application_id = '', application_type = ''
WHERE account_id = $1 AND application_id = $2 RETURNING powerpack_id;
