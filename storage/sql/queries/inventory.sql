-- Numbers for accounts to rent. A search walks one index in the order of the numbers and stops at $9 that fit.
-- What it gives: the numbers of the page, and how many there are, counted up to $9.

-- name: search_inventory_by_type
-- Free for account $1 or its main account $2, in country $3, of the types $4, between $5 and $6, able to do all of $7.
WITH found AS (
    SELECT i.* FROM unnest($4::text[]) AS wanted (type) CROSS JOIN LATERAL (
        SELECT * FROM inventory
        WHERE country = $3 AND type = wanted.type AND NOT rented AND number >= $5 AND number < $6
            AND services @> $7::text[] AND reserved_for IN ('', $1, $2) AND $8 = ''
        ORDER BY number LIMIT $9
    ) AS i
)
SELECT page.*, total.total FROM (SELECT least(count(*), $9) AS total FROM found) AS total
LEFT JOIN LATERAL (SELECT * FROM found ORDER BY number LIMIT $10 OFFSET $11) AS page ON true
ORDER BY page.number;

-- name: search_inventory_with_mms
-- The same where MMS is asked for, which few numbers may be able to do: they have an index of their own.
WITH found AS (
    SELECT i.* FROM unnest($4::text[]) AS wanted (type) CROSS JOIN LATERAL (
        SELECT * FROM inventory
        WHERE country = $3 AND type = wanted.type AND NOT rented AND number >= $5 AND number < $6
            AND services @> '{mms}' AND services @> $7::text[] AND reserved_for IN ('', $1, $2) AND $8 = ''
        ORDER BY number LIMIT $9
    ) AS i
)
SELECT page.*, total.total FROM (SELECT least(count(*), $9) AS total FROM found) AS total
LEFT JOIN LATERAL (SELECT * FROM found ORDER BY number LIMIT $10 OFFSET $11) AS page ON true
ORDER BY page.number;

-- name: search_inventory_by_region
-- The same in one region, $8.
WITH found AS (
    SELECT * FROM inventory
    WHERE country = $3 AND region = $8 AND NOT rented AND number >= $5 AND number < $6
        AND type = ANY ($4::text[]) AND services @> $7::text[] AND reserved_for IN ('', $1, $2)
    ORDER BY number LIMIT $9
)
SELECT page.*, total.total FROM (SELECT count(*) AS total FROM found) AS total
LEFT JOIN LATERAL (SELECT * FROM found ORDER BY number LIMIT $10 OFFSET $11) AS page ON true
ORDER BY page.number;

-- name: search_inventory_by_city
-- The same in one city, $8, and where there are several of this name in the region $12.
WITH found AS (
    SELECT * FROM inventory
    WHERE country = $3 AND city = $8 AND NOT rented AND number >= $5 AND number < $6
        AND type = ANY ($4::text[]) AND services @> $7::text[] AND reserved_for IN ('', $1, $2)
        AND ($12 = '' OR region = $12)
    ORDER BY number LIMIT $9
)
SELECT page.*, total.total FROM (SELECT count(*) AS total FROM found) AS total
LEFT JOIN LATERAL (SELECT * FROM found ORDER BY number LIMIT $10 OFFSET $11) AS page ON true
ORDER BY page.number;

-- name: find_stocked
-- The number $3, if account $1 or its main account $2 may rent it.
SELECT * FROM inventory WHERE number = $3 AND NOT rented AND reserved_for IN ('', $1, $2);

-- name: rent_number
-- Makes the number $3 that of account $1, in the powerpack $4, from $5 on, with the application $6. No row: it is not for
-- rent, or somebody else was first: who comes second waits for the first and then finds it rented.
WITH offered AS (
    SELECT * FROM inventory WHERE number = $3 AND NOT rented AND reserved_for IN ('', $1, $2) FOR UPDATE
)
INSERT INTO numbers (number, account_id, type, country, carrier, powerpack_id, services, campaign_approved, verified,
    state, added_ms, application_id, rented_ms)
SELECT number, $1, type, country, carrier, $4::uuid, services, campaign_approved, verified, 'active', $5, $6, $5
FROM offered
RETURNING *;

-- name: rent_numbers
-- Makes those of the numbers $3 that are for rent account $1's, from $4 on.
WITH offered AS (
    SELECT * FROM inventory WHERE number = ANY ($3::text[]) AND NOT rented AND reserved_for IN ('', $1, $2)
    ORDER BY number FOR UPDATE
)
INSERT INTO numbers (number, account_id, type, country, carrier, services, campaign_approved, verified, state,
    added_ms, rented_ms)
SELECT number, $1, type, country, carrier, services, campaign_approved, verified, 'active', $4, $4 FROM offered
RETURNING number;

-- name: stock_numbers
-- Puts numbers into the inventory, from one JSON array; counts those that are new or described otherwise than before.
INSERT INTO inventory AS i (number, type, country, region, city, carrier, services, campaign_approved, verified,
    setup_rate, monthly_rate, sms_rate, mms_rate, reserved_for, rented)
SELECT row.*, EXISTS (SELECT FROM numbers AS n WHERE n.number = row.number COLLATE "C")
FROM jsonb_to_recordset($1::jsonb) AS row (number text, type text, country text, region text, city text, carrier text,
    services text[], campaign_approved boolean, verified boolean, setup_rate text, monthly_rate text, sms_rate text,
    mms_rate text, reserved_for text)
ORDER BY row.number COLLATE "C"
ON CONFLICT (number) DO UPDATE SET type = excluded.type, country = excluded.country, region = excluded.region,
    city = excluded.city, carrier = excluded.carrier, services = excluded.services,
    campaign_approved = excluded.campaign_approved, verified = excluded.verified, setup_rate = excluded.setup_rate,
    monthly_rate = excluded.monthly_rate, sms_rate = excluded.sms_rate, mms_rate = excluded.mms_rate,
    reserved_for = excluded.reserved_for
WHERE (i.type, i.country, i.region, i.city, i.carrier, i.services, i.campaign_approved, i.verified, i.setup_rate,
    i.monthly_rate, i.sms_rate, i.mms_rate, i.reserved_for) IS DISTINCT FROM (excluded.type, excluded.country,
    excluded.region, excluded.city, excluded.carrier, excluded.services, excluded.campaign_approved, excluded.verified,
    excluded.setup_rate, excluded.monthly_rate, excluded.sms_rate, excluded.mms_rate, excluded.reserved_for);

-- name: list_inventory
-- The $2 numbers after $1, rented or not, in their order.
SELECT * FROM inventory WHERE number > $1 ORDER BY number LIMIT $2;
