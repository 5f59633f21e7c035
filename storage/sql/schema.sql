-- The truth about the schema; migrations/ is the road to it, and a test proves that they meet.
-- Times are integer milliseconds since the Unix epoch. Message ids are UUIDv7, so the day follows from the id:
-- tables keyed by one are partitioned by ranges of it and dropped whole when their time is over.

CREATE TABLE lease (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch bigint NOT NULL,
    owner text NOT NULL,
    taken_ms bigint NOT NULL
);

-- What people edit ------------------------------------------------------------------------------------------------

-- main_id: whose subaccount it is. former_*: the token before, good until former_until_ms. A deleted account keeps its row,
-- since callbacks of its messages are still signed with its token.
CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    name text NOT NULL,
    token_sha256 bytea NOT NULL,
    token_sealed bytea NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    created_ms bigint NOT NULL,
    main_id text REFERENCES accounts,
    former_sha256 bytea NOT NULL DEFAULT '',
    former_sealed bytea NOT NULL DEFAULT '',
    former_until_ms bigint NOT NULL DEFAULT 0,
    modified_ms bigint NOT NULL DEFAULT 0,
    deleted_ms bigint NOT NULL DEFAULT 0
);
CREATE INDEX accounts_main ON accounts (main_id);

CREATE TABLE applications (
    application_id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    name text NOT NULL,
    message_url text NOT NULL DEFAULT '',
    message_method text NOT NULL DEFAULT 'POST',
    created_ms bigint NOT NULL,
    answer_url text NOT NULL DEFAULT '',
    answer_method text NOT NULL DEFAULT 'POST',
    hangup_url text NOT NULL DEFAULT '',
    hangup_method text NOT NULL DEFAULT 'POST',
    fallback_url text NOT NULL DEFAULT '',
    fallback_method text NOT NULL DEFAULT 'POST',
    is_number_default boolean NOT NULL DEFAULT false,
    is_endpoint_default boolean NOT NULL DEFAULT false,
    log_inbound boolean NOT NULL DEFAULT true,
    is_public boolean NOT NULL DEFAULT false,
    UNIQUE (account_id, name)
);
CREATE UNIQUE INDEX applications_one_number_default ON applications (account_id) WHERE is_number_default;

CREATE TABLE powerpacks (
    powerpack_id uuid PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    pool_id uuid NOT NULL UNIQUE,
    name text NOT NULL,
    sticky_sender boolean NOT NULL,
    local_connect boolean NOT NULL,
    priority jsonb NOT NULL,
    operator_types jsonb NOT NULL,
    sticky_at_limit text NOT NULL,
    sticky_wait_ms bigint NOT NULL,
    sticky_life_ms bigint NOT NULL,
    patience_ms bigint NOT NULL,
    on_unknown text NOT NULL,
    application_type text NOT NULL DEFAULT '',
    application_id text NOT NULL DEFAULT '',
    created_ms bigint NOT NULL,
    pause text NOT NULL DEFAULT '',
    UNIQUE (account_id, name),
    UNIQUE (account_id, powerpack_id)
);
CREATE INDEX powerpacks_application ON powerpacks (account_id, application_id);

CREATE TABLE numbers (
    number text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    type text NOT NULL,
    country text NOT NULL,
    carrier text NOT NULL,
    powerpack_id uuid,
    services text[] NOT NULL,
    campaign_approved boolean NOT NULL,
    verified boolean NOT NULL,
    state text NOT NULL,
    limits jsonb,
    added_ms bigint NOT NULL,
    alias text NOT NULL DEFAULT '',
    application_id text NOT NULL DEFAULT '',
    rented_ms bigint NOT NULL DEFAULT 0,
    FOREIGN KEY (account_id, powerpack_id) REFERENCES powerpacks (account_id, powerpack_id)
);
CREATE INDEX numbers_account ON numbers (account_id, number);
CREATE INDEX numbers_powerpack ON numbers (powerpack_id, number);
CREATE UNIQUE INDEX numbers_one_toll_free ON numbers (powerpack_id) WHERE type = 'tollfree';
CREATE UNIQUE INDEX numbers_one_short_code ON numbers (powerpack_id, country) WHERE type = 'shortcode';

-- Numbers the administrator owns, for accounts to rent: searched here, never loaded. `rented` is whether `numbers` has it,
-- whoever puts it there or takes it out: two triggers see to that.
CREATE TABLE inventory (
    number text COLLATE "C" PRIMARY KEY,
    type text NOT NULL,
    country text NOT NULL,
    region text NOT NULL,
    city text NOT NULL,
    carrier text NOT NULL,
    services text[] NOT NULL,
    campaign_approved boolean NOT NULL,
    verified boolean NOT NULL,
    setup_rate text NOT NULL,
    monthly_rate text NOT NULL,
    sms_rate text NOT NULL,
    mms_rate text NOT NULL,
    reserved_for text NOT NULL,
    rented boolean NOT NULL
);
CREATE INDEX inventory_type ON inventory (country, type, number) WHERE NOT rented;
CREATE INDEX inventory_region ON inventory (country, region, number) WHERE NOT rented;
CREATE INDEX inventory_city ON inventory (country, city, number) WHERE NOT rented;
CREATE INDEX inventory_mms ON inventory (country, type, number) WHERE NOT rented AND services @> '{mms}';

CREATE FUNCTION note_rented() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE inventory AS i SET rented = (TG_OP = 'INSERT') FROM changed WHERE i.number = changed.number COLLATE "C";
    RETURN NULL;
END
$$;
CREATE TRIGGER numbers_rented AFTER INSERT ON numbers
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_rented();
CREATE TRIGGER numbers_free AFTER DELETE ON numbers
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_rented();

-- Which operator recipients' numbers belong to, by how they begin: digits with the country code. Loaded at the start.
CREATE TABLE operator_prefixes (
    prefix text COLLATE "C" PRIMARY KEY,
    operator text NOT NULL,
    imported_ms bigint NOT NULL
);

-- What an administrator has told of a carrier: cancel_ms, cancel what was accepted until then; cancelled_ms, until when
-- that is done, and how many of the last time had left already.
CREATE TABLE carriers (
    carrier text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    cancel_ms bigint NOT NULL DEFAULT 0,
    cancelled_ms bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    in_flight bigint NOT NULL DEFAULT 0
);

-- The journal -----------------------------------------------------------------------------------------------------

CREATE TABLE messages (
    message_id uuid NOT NULL,
    request_id uuid NOT NULL,
    account_id text NOT NULL,
    powerpack_id uuid,
    recipient text NOT NULL,
    number text,
    tier text NOT NULL,
    rules text NOT NULL,
    binding_window text NOT NULL,
    segments smallint NOT NULL,
    service text NOT NULL,
    priority text NOT NULL,
    reference text NOT NULL,
    line integer NOT NULL,
    accepted_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    forecast_ms bigint,
    refusal text NOT NULL,
    epoch bigint NOT NULL,
    batch bigint NOT NULL,
    PRIMARY KEY (message_id)
) PARTITION BY RANGE (message_id);
CREATE INDEX messages_account ON messages (account_id, message_id);

CREATE TABLE bodies (
    request_id uuid NOT NULL,
    account_id text NOT NULL,
    text text NOT NULL,
    callback_url text NOT NULL,
    callback_method text NOT NULL,
    patience_ms bigint,
    validity_ms bigint NOT NULL,
    on_unknown text NOT NULL,
    log text NOT NULL,
    requester_ip text NOT NULL,
    PRIMARY KEY (request_id)
) PARTITION BY RANGE (request_id);

-- Consecutive lines of a bulk (one stream of messages) that were stored in one transaction with their messages: how many,
-- what they were (a hash over the bulk so far), which were refused and why. The primary key keeps a line from being stored
-- twice.
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

CREATE TABLE handovers (
    carrier text NOT NULL,
    claimed_ms bigint NOT NULL,
    message_ids uuid[] NOT NULL,
    attempts smallint[] NOT NULL,
    numbers text[] NOT NULL,
    segments smallint[] NOT NULL,
    epoch bigint NOT NULL,
    batch bigint NOT NULL
) PARTITION BY RANGE (claimed_ms);
CREATE INDEX handovers_claimed ON handovers (claimed_ms);

CREATE TABLE facts (
    fact_no bigint GENERATED ALWAYS AS IDENTITY,
    message_id uuid NOT NULL,
    account_id text NOT NULL,
    kind text NOT NULL,
    attempt smallint NOT NULL,
    at_ms bigint NOT NULL,
    handed_ms bigint,
    number text,
    carrier text NOT NULL,
    carrier_ref text NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    segments smallint NOT NULL,
    charged boolean NOT NULL,
    epoch bigint NOT NULL,
    batch bigint NOT NULL
) PARTITION BY RANGE (message_id);
CREATE INDEX facts_message ON facts (message_id);
CREATE INDEX facts_at ON facts USING brin (at_ms);

CREATE TABLE outcomes (
    message_id uuid NOT NULL,
    account_id text NOT NULL,
    state text NOT NULL,
    code text NOT NULL,
    at_ms bigint NOT NULL,
    epoch bigint NOT NULL,
    batch bigint NOT NULL,
    PRIMARY KEY (message_id)
) PARTITION BY RANGE (message_id);

CREATE TABLE carrier_refs (
    carrier text NOT NULL,
    carrier_ref text NOT NULL,
    message_id uuid NOT NULL,
    at_ms bigint NOT NULL
) PARTITION BY RANGE (at_ms);
CREATE INDEX carrier_refs_ref ON carrier_refs (carrier, carrier_ref);

CREATE TABLE unmatched_reports (
    carrier text NOT NULL,
    carrier_ref text NOT NULL,
    kind text NOT NULL,
    code text NOT NULL,
    at_ms bigint NOT NULL
);
CREATE INDEX unmatched_reports_ref ON unmatched_reports (carrier, carrier_ref);
CREATE INDEX unmatched_reports_at ON unmatched_reports (at_ms);

CREATE TABLE callbacks (
    callback_id uuid NOT NULL,
    account_id text NOT NULL,
    message_id uuid NOT NULL,
    sequence integer NOT NULL,
    url text NOT NULL,
    method text NOT NULL,
    params bytea NOT NULL,
    created_ms bigint NOT NULL,
    next_ms bigint NOT NULL,
    tries smallint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'owed',
    last_result text NOT NULL DEFAULT '',
    PRIMARY KEY (callback_id)
) PARTITION BY RANGE (callback_id);
CREATE INDEX callbacks_owed ON callbacks (next_ms) WHERE state = 'owed';

CREATE TABLE sticky (
    powerpack_id uuid NOT NULL,
    recipient text NOT NULL,
    number text NOT NULL,
    detour text NOT NULL DEFAULT '',
    used boolean NOT NULL,
    last_ms bigint NOT NULL,
    PRIMARY KEY (powerpack_id, recipient)
);

CREATE TABLE sticky_mark (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    replay_from_ms bigint NOT NULL
);

CREATE TABLE idempotency (
    account_id text NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    answer bytea NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_created ON idempotency (created_ms);

-- Partitions by day -----------------------------------------------------------------------------------------------
-- A day's partition is named parent_YYYYMMDD (UTC). What falls outside all of them goes to the default partition,
-- so a missing day loses nothing; it is alarmed when its partition is to be made and rows of it lie in the default one.

CREATE TABLE messages_default PARTITION OF messages DEFAULT;
CREATE TABLE bodies_default PARTITION OF bodies DEFAULT;
CREATE TABLE bulk_stretches_default PARTITION OF bulk_stretches DEFAULT;
CREATE TABLE handovers_default PARTITION OF handovers DEFAULT;
CREATE TABLE facts_default PARTITION OF facts DEFAULT;
CREATE TABLE outcomes_default PARTITION OF outcomes DEFAULT;
CREATE TABLE carrier_refs_default PARTITION OF carrier_refs DEFAULT;
CREATE TABLE callbacks_default PARTITION OF callbacks DEFAULT;

-- The key column of a partitioned table.
CREATE FUNCTION partition_key(parent regclass) RETURNS name LANGUAGE sql STABLE AS $$
    SELECT a.attname FROM pg_partitioned_table p
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid = parent
$$;

-- The least key of an instant, as text: the instant itself, or the least UUIDv7 made in it.
CREATE FUNCTION partition_bound(parent regclass, at_ms bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE a.atttypid WHEN 'uuid'::regtype
        THEN (lpad(to_hex(at_ms), 12, '0') || repeat('0', 20))::uuid::text ELSE at_ms::text END
    FROM pg_attribute a WHERE a.attrelid = parent AND a.attname = partition_key(parent)
$$;

-- Makes the partition of the day that begins at day_ms. False: the default partition holds rows of that day.
-- Made beside its parent and attached, which keeps nobody from writing to the other days.
CREATE FUNCTION make_partition(parent regclass, partition name, day_ms bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %s INCLUDING DEFAULTS)', partition, parent);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, partition,
        partition_bound(parent, day_ms), partition_bound(parent, day_ms + 86400000));
    RETURN true;
EXCEPTION WHEN check_violation THEN
    RETURN false;
END
$$;

CREATE FUNCTION drop_partition(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TABLE %s', partition);
END
$$;

-- Deletes at most `most` rows whose key or time lies before `bound`; says how many.
CREATE FUNCTION sweep_rows(swept regclass, key name, bound text, most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    EXECUTE format('DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s WHERE %I < %L LIMIT %s))',
        swept, swept, key, bound, most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
