-- name: list_accounts
-- All accounts, for the start.
SELECT account_id, name, token_sha256, token_sealed, enabled FROM accounts ORDER BY account_id;

-- name: find_account
-- One account.
SELECT account_id, name, token_sha256, token_sealed, enabled FROM accounts WHERE account_id = $1;

-- name: insert_account
-- Its token twice: to check by, and sealed to sign with.
INSERT INTO accounts (account_id, name, token_sha256, token_sealed, enabled, created_ms)
VALUES ($1, $2, $3, $4, true, $5);

-- name: enable_account
-- Shut an account out, or let it in again.
UPDATE accounts SET enabled = $2 WHERE account_id = $1;
