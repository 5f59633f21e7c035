-- Numbers that no account has yet, and what keeps `rented` true to the table of those that accounts have.

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
