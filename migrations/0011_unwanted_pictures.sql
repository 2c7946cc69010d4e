-- Pictures whose order is gone, until their files are gone, too: a bot that is killed in between has no other way to tell
-- them from those of another database.

CREATE TABLE unwanted_pictures (
    id TEXT PRIMARY KEY
) STRICT;

CREATE TRIGGER unwanted_when_deleted AFTER DELETE ON pictures BEGIN
    INSERT OR IGNORE INTO unwanted_pictures (id) VALUES (OLD.id);
END;
