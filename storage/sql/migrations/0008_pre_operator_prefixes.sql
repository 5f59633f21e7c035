-- Which network numbers belong to, by how they begin.

CREATE TABLE operator_prefixes (
    prefix text COLLATE "C" PRIMARY KEY,
    operator text NOT NULL,
    imported_ms bigint NOT NULL
);
