-- Messages that show an order once more, so that they go when it is deleted.

CREATE TABLE reposts (
    message_id       INTEGER PRIMARY KEY,
    job_id           TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    guild_id         INTEGER,
    channel_id       INTEGER NOT NULL,
    application_id   INTEGER NOT NULL,
    token            TEXT,
    token_expires_at REAL NOT NULL,
    member           INTEGER NOT NULL
) STRICT;

CREATE INDEX reposts_of_a_job ON reposts (job_id);
