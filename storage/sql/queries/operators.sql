-- Prefixes of recipients' numbers, digits with the country code, and whose they are.

-- name: put_operator_prefixes
-- Adds prefixes, or says something else of them.
INSERT INTO operator_prefixes (prefix, operator, imported_ms)
SELECT prefix, operator, $3 FROM unnest($1::text[], $2::text[]) AS row (prefix, operator)
ON CONFLICT (prefix) DO UPDATE SET operator = excluded.operator, imported_ms = excluded.imported_ms;

-- name: drop_older_prefixes
-- Those that no import since $1 has named.
DELETE FROM operator_prefixes WHERE imported_ms < $1;

-- name: stamp_operator_prefixes
-- How many there are, and when the latest was imported.
SELECT count(*) AS prefixes, coalesce(max(imported_ms), 0) AS imported_ms FROM operator_prefixes;

-- name: list_operator_prefixes
-- The $2 prefixes after $1, in their order.
SELECT prefix, operator FROM operator_prefixes WHERE prefix > $1 ORDER BY prefix LIMIT $2;
