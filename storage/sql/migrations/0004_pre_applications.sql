-- Applications keep all that Plivo's have. Voice is not ours, but what an account stored there it reads again.

ALTER TABLE applications
    ADD COLUMN answer_url text NOT NULL DEFAULT '',
    ADD COLUMN answer_method text NOT NULL DEFAULT 'POST',
    ADD COLUMN hangup_url text NOT NULL DEFAULT '',
    ADD COLUMN hangup_method text NOT NULL DEFAULT 'POST',
    ADD COLUMN fallback_url text NOT NULL DEFAULT '',
    ADD COLUMN fallback_method text NOT NULL DEFAULT 'POST',
    ADD COLUMN is_number_default boolean NOT NULL DEFAULT false,
    ADD COLUMN is_endpoint_default boolean NOT NULL DEFAULT false,
    ADD COLUMN log_inbound boolean NOT NULL DEFAULT true,
    ADD COLUMN is_public boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX applications_one_number_default ON applications (account_id) WHERE is_number_default;
CREATE INDEX powerpacks_application ON powerpacks (account_id, application_id);
