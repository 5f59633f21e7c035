-- Messages that come as one stream of lines: see schema.sql.

CREATE TABLE bulk_stretches (
    bulk_id uuid NOT NULL,
    first_line integer NOT NULL,
    lines integer NOT NULL,
    account_id text NOT NULL,
    digest bytea NOT NULL,
    accepted integer NOT NULL,
    first_id uuid,
    last_id uuid,
    refused_lines integer[] NOT NULL,
    refused_codes text[] NOT NULL,
    refused_errors text[] NOT NULL,
    refused_retry_ms bigint[] NOT NULL,
    at_ms bigint NOT NULL,
    epoch bigint NOT NULL,
    batch bigint NOT NULL,
    PRIMARY KEY (bulk_id, first_line)
) PARTITION BY RANGE (bulk_id);
CREATE TABLE bulk_stretches_default PARTITION OF bulk_stretches DEFAULT;
