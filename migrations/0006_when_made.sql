-- Pictures that are older than the database are not its own: the bot must not remove them because no job here knows them.

INSERT INTO remembered (key, value)
SELECT 'made_at', CAST(coalesce(min(created_at), (julianday('now') - 2440587.5) * 86400.0) AS TEXT) FROM jobs;
