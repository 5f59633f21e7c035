-- A message may name its source number instead of a powerpack; powerpacks and carriers may be paused; what waits for a
-- carrier may be cancelled.

ALTER TABLE messages ALTER COLUMN powerpack_id DROP NOT NULL;

ALTER TABLE powerpacks ADD COLUMN pause text NOT NULL DEFAULT '';

CREATE TABLE carriers (
    carrier text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    cancel_ms bigint NOT NULL DEFAULT 0,
    cancelled_ms bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    in_flight bigint NOT NULL DEFAULT 0
);
