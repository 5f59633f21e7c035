-- name: make_missing_partitions
-- Makes each day's partition that is missing among the $2 days from the one that begins at $1; a row for each it tried.
-- The lock keeps two processes from making the same one.
WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext('sendpool partitions'))),
missing AS MATERIALIZED (
    SELECT p.partrelid AS parent, day_ms,
        c.relname || '_' || to_char(to_timestamp(day_ms / 1000) AT TIME ZONE 'UTC', 'YYYYMMDD') AS partition
    FROM locked, pg_partitioned_table p
    JOIN pg_class c ON c.oid = p.partrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    CROSS JOIN generate_series($1::bigint, $1 + ($2 - 1) * 86400000::bigint, 86400000) AS day_ms
)
SELECT partition, make_partition(parent::regclass, partition::name, day_ms) AS made
FROM missing WHERE to_regclass(partition) IS NULL
ORDER BY day_ms, partition;

-- name: list_partitions
-- Each day's partition with its parent and the end of its day, and the default ones (without an end), oldest first.
SELECT parent.relname::text AS parent, child.relname::text AS partition, partition_key(parent.oid)::text AS key,
    (extract(epoch FROM to_date(substring(child.relname FROM '_([0-9]{8})$'), 'YYYYMMDD'))::bigint + 86400) * 1000
        AS until_ms
FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid
JOIN pg_class parent ON parent.oid = inhparent AND parent.relkind = 'p'
JOIN pg_namespace n ON n.oid = parent.relnamespace AND n.nspname = current_schema()
ORDER BY until_ms NULLS LAST, partition;

-- name: drop_partition
-- Drops one day of one table. Waits for readers of the whole table at most as long as lock_timeout says.
SELECT drop_partition($1::text::regclass);

-- name: sweep_default_partition
-- Deletes some rows from before $3 out of a default partition.
SELECT sweep_rows($2::text::regclass, partition_key($1::text::regclass), partition_bound($1::text::regclass, $3), $4);

-- name: sweep_table
-- Deletes some rows from before $3 out of a table that is not partitioned.
SELECT sweep_rows($1::text::regclass, $2::text::name, $3::bigint::text, $4);
