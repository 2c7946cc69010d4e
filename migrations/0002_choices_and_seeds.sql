-- What people, channels and servers have chosen; personal seed books; what a job needs to be shown rightly later on.

CREATE TABLE choices (
    scope     TEXT NOT NULL CHECK (scope IN ('channel', 'user', 'server')),
    scope_id  INTEGER NOT NULL,
    model     TEXT NOT NULL,
    chosen_by INTEGER NOT NULL,
    chosen_at REAL NOT NULL,
    PRIMARY KEY (scope, scope_id)
) STRICT, WITHOUT ROWID;

-- A server's own rules; NULL is what the bot allows anyway.
CREATE TABLE rules (
    guild_id       INTEGER PRIMARY KEY,
    hidden_models  TEXT NOT NULL,                     -- JSON: [name, …]
    waiting_limit  INTEGER,
    largest_side   INTEGER,
    most_steps     INTEGER,
    most_pictures  INTEGER,
    channel_models TEXT NOT NULL CHECK (channel_models IN ('moderators', 'everyone')),
    explicit       TEXT NOT NULL CHECK (explicit IN ('block', 'spoiler', 'allow'))
) STRICT;

CREATE TABLE seeds (
    user_id  INTEGER NOT NULL,
    name     TEXT NOT NULL COLLATE NOCASE,
    seed     INTEGER NOT NULL,
    saved_at REAL NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE seed_locks (
    user_id INTEGER PRIMARY KEY,
    seed    INTEGER NOT NULL
) STRICT;

ALTER TABLE jobs ADD COLUMN locale TEXT NOT NULL DEFAULT 'en-US';
ALTER TABLE jobs ADD COLUMN member INTEGER NOT NULL DEFAULT 1;          -- the bot belongs to the place of the card
ALTER TABLE jobs ADD COLUMN age_restricted INTEGER NOT NULL DEFAULT 0;  -- the channel was, when this was ordered
ALTER TABLE jobs ADD COLUMN spoiler INTEGER NOT NULL DEFAULT 0;         -- asked for
ALTER TABLE jobs ADD COLUMN seed_locked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;          -- its end could be shown nowhere
ALTER TABLE jobs ADD COLUMN comparison_id TEXT;                         -- orders with the same one share a card
ALTER TABLE pictures ADD COLUMN explicit INTEGER;                       -- what a safety check said; NULL without one

CREATE INDEX jobs_of_a_message ON jobs (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX jobs_of_a_parent ON jobs (parent_id) WHERE parent_id IS NOT NULL;  -- without it a deletion reads every job
CREATE INDEX jobs_of_a_comparison ON jobs (comparison_id) WHERE comparison_id IS NOT NULL;
