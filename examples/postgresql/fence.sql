-- Once, as the owner of the data: psql -f fence.sql. One row for each thing that has one leader.
CREATE TABLE IF NOT EXISTS fence (
  resource text PRIMARY KEY,
  token bigint NOT NULL
);

-- Some data that only the leader may change.
CREATE TABLE IF NOT EXISTS account (
  name text PRIMARY KEY,
  balance bigint NOT NULL,
  by_token bigint NOT NULL
);
INSERT INTO account VALUES ('main', 0, 0) ON CONFLICT DO NOTHING;
