-- name: list_carriers
-- What was told of carriers, for the start.
SELECT carrier, paused, cancel_ms, cancelled_ms, cancelled, in_flight FROM carriers ORDER BY carrier;

-- name: find_carrier
-- What was told of one.
SELECT carrier, paused, cancel_ms, cancelled_ms, cancelled, in_flight FROM carriers WHERE carrier = $1;

-- name: pause_carrier
-- Let its messages stay, or leave again.
INSERT INTO carriers (carrier, paused) VALUES ($1, $2)
ON CONFLICT (carrier) DO UPDATE SET paused = excluded.paused;

-- name: order_cancel
-- What was accepted until $2 and waits for it is to be cancelled; each order has an instant of its own.
INSERT INTO carriers (carrier, cancel_ms) VALUES ($1, $2)
ON CONFLICT (carrier) DO UPDATE SET cancel_ms = greatest(carriers.cancel_ms + 1, excluded.cancel_ms)
RETURNING cancel_ms;

-- name: note_cancelled
-- The order $2 is done: $3 were cancelled, $4 had left.
UPDATE carriers SET cancelled_ms = $2, cancelled = $3, in_flight = $4 WHERE carrier = $1 AND cancelled_ms < $2;
