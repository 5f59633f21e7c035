-- name: list_accounts
-- All accounts, for the start; deleted ones too, whose callbacks are still to be signed.
SELECT a.*, coalesce(m.enabled, true) AS main_enabled
FROM accounts AS a LEFT JOIN accounts AS m ON m.account_id = a.main_id ORDER BY a.account_id;

-- name: find_account
-- One account.
SELECT a.*, coalesce(m.enabled, true) AS main_enabled
FROM accounts AS a LEFT JOIN accounts AS m ON m.account_id = a.main_id WHERE a.account_id = $1;

-- name: insert_account
-- Its token twice: to check by, and sealed to sign with. Of a main account that there is and that is none's subaccount.
INSERT INTO accounts (account_id, name, token_sha256, token_sealed, created_ms, main_id, enabled)
SELECT $1, $2, $3, $4, $5, $6::text, $7
WHERE $6::text IS NULL
    OR EXISTS (SELECT FROM accounts WHERE account_id = $6 AND main_id IS NULL AND deleted_ms = 0);

-- name: update_account
-- Its name, and whether it is let in; NULL leaves one as it is.
UPDATE accounts SET name = coalesce($2, name), enabled = coalesce($3, enabled), modified_ms = $4
WHERE account_id = $1 AND deleted_ms = 0;

-- name: list_subaccount_ids
-- Those that are shut out and let in together with it.
SELECT account_id FROM accounts WHERE main_id = $1 AND deleted_ms = 0;

-- name: rotate_token
-- A new token; the one before stays good until $4, the one before that is good no more.
UPDATE accounts SET token_sha256 = $2, token_sealed = $3, former_until_ms = $4, modified_ms = $5,
    former_sha256 = CASE WHEN $4::bigint > $5::bigint THEN token_sha256 ELSE '' END,
    former_sealed = CASE WHEN $4::bigint > $5::bigint THEN token_sealed ELSE '' END
WHERE account_id = $1 AND deleted_ms = 0;

-- name: end_former_token
-- Only its own token is good from now on.
UPDATE accounts SET former_sha256 = '', former_sealed = '', former_until_ms = 0, modified_ms = $2
WHERE account_id = $1 AND deleted_ms = 0;

-- name: delete_subaccount
-- Never let in again; its row stays for the callbacks that are still to be signed.
UPDATE accounts SET enabled = false, deleted_ms = $3, former_sha256 = '', former_sealed = '', former_until_ms = 0
WHERE account_id = $2 AND main_id = $1 AND deleted_ms = 0;

-- name: delete_numbers_of_account
-- They go with it.
DELETE FROM numbers WHERE account_id = $1 RETURNING number;

-- name: give_numbers_of_account
-- They become another account's, in no powerpack.
UPDATE numbers SET account_id = $2, powerpack_id = NULL WHERE account_id = $1 RETURNING number;

-- name: delete_powerpacks_of_account
-- Once they have no numbers.
DELETE FROM powerpacks WHERE account_id = $1 RETURNING powerpack_id;

-- name: delete_applications_of_account
-- They go with it.
DELETE FROM applications WHERE account_id = $1 RETURNING application_id;

-- name: give_applications_of_account
-- They become another account's, none its numbers' default; where it has the name, the former account's id is added.
UPDATE applications AS given SET account_id = $2, is_number_default = false,
    name = CASE WHEN EXISTS (SELECT FROM applications AS own WHERE own.account_id = $2 AND own.name = given.name)
        THEN given.name || '-' || given.account_id ELSE given.name END
WHERE account_id = $1 RETURNING application_id;
