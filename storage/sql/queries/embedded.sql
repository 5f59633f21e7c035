-- name: create_database
-- In a folder that was just made.
CREATE DATABASE sendpool;
