-- What of a prompt a model did not read, because its text encoder takes so many tokens and no more; '' where it read all.

ALTER TABLE pictures ADD COLUMN unread          TEXT NOT NULL DEFAULT '';
ALTER TABLE pictures ADD COLUMN unread_negative TEXT NOT NULL DEFAULT '';
