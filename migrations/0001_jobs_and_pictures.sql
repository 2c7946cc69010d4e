-- Orders and what came of them. A job is a row before it counts as accepted, so that a killed bot finds it again.
--
-- state:        queued -> running -> done | failed | cancelled
-- delivered_at: when the person was shown how it ended; apart from the state, because a drawn picture may still be
--               on its way when the bot is killed, and must then be posted without being drawn again.

CREATE TABLE jobs (
    id                    TEXT PRIMARY KEY,
    state                 TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    origin                TEXT NOT NULL,
    parent_id             TEXT REFERENCES jobs (id) ON DELETE SET NULL,
    user_id               INTEGER NOT NULL,

    guild_id              INTEGER,
    channel_id            INTEGER NOT NULL,
    message_id            INTEGER,
    application_id        INTEGER NOT NULL,
    token                 TEXT,
    token_expires_at      REAL NOT NULL,
    attachment_size_limit INTEGER NOT NULL,

    prompt                TEXT NOT NULL,
    negative              TEXT NOT NULL,
    model                 TEXT NOT NULL,
    adapters              TEXT NOT NULL,              -- JSON: [[name, strength], …]
    seed                  INTEGER NOT NULL,
    count                 INTEGER NOT NULL,
    steps                 INTEGER NOT NULL,
    guidance              REAL NOT NULL,
    width                 INTEGER NOT NULL,
    height                INTEGER NOT NULL,
    bucket                INTEGER,

    failure               TEXT,
    seconds               REAL,
    created_at            REAL NOT NULL,              -- times are seconds since 1970, UTC
    delivered_at          REAL
) STRICT;

CREATE INDEX jobs_of_a_user ON jobs (user_id, created_at DESC);
CREATE INDEX jobs_unfinished ON jobs (created_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_undelivered ON jobs (created_at) WHERE delivered_at IS NULL;

CREATE TABLE pictures (
    id            TEXT PRIMARY KEY,                   -- the file is <id>.png
    job_id        TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position      INTEGER NOT NULL,
    seed          INTEGER NOT NULL,
    width         INTEGER NOT NULL,
    height        INTEGER NOT NULL,
    bucket        INTEGER NOT NULL,
    pixels_sha256 TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    UNIQUE (job_id, position)
) STRICT;

-- Small facts that the bot keeps for itself, such as which commands it last told Discord about.
CREATE TABLE remembered (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
