-- name: list_applications
-- All applications, for the start.
SELECT application_id, account_id, name, message_url, message_method, created_ms
FROM applications ORDER BY account_id, created_ms, application_id;

-- name: find_application
-- One application of one account.
SELECT application_id, account_id, name, message_url, message_method, created_ms
FROM applications WHERE account_id = $1 AND application_id = $2;

-- name: insert_application
-- A new application.
INSERT INTO applications (application_id, account_id, name, message_url, message_method, created_ms)
VALUES ($2, $1, $3, $4, $5, $6);

-- name: update_application
-- All that may be edited of one.
UPDATE applications SET name = $3, message_url = $4, message_method = $5
WHERE account_id = $1 AND application_id = $2;

-- name: delete_application
-- Powerpacks that name it keep the name of nothing.
DELETE FROM applications WHERE account_id = $1 AND application_id = $2;
