-- name: make_migrations_table
-- The list of applied migrations; it is no part of schema.sql.
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: lock_migrations
-- One process migrates at a time; held to the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('sendpool migrations'));

-- name: list_migrations
-- What has been applied here.
SELECT name, sha256 FROM migrations ORDER BY name;

-- name: add_migration
-- Written in the transaction of the migration itself.
INSERT INTO migrations (name, sha256) VALUES ($1, $2);
