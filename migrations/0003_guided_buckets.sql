-- Guided pictures (guidance above 1) take a second pass, whose padded size is recorded since it may differ from that of the
-- first, bucket; in an order it is what it asks for, NULL for nothing. Until now both passes had the same size, so that is
-- what it takes to draw those pictures again. Of a native LCM, which makes no second pass, the number means nothing.

ALTER TABLE jobs ADD COLUMN guided_bucket INTEGER;
ALTER TABLE pictures ADD COLUMN guided_bucket INTEGER NOT NULL DEFAULT 0;  -- 0: there was no second pass

UPDATE jobs SET guided_bucket = bucket WHERE guidance > 1;
UPDATE pictures SET guided_bucket = bucket WHERE job_id IN (SELECT id FROM jobs WHERE guidance > 1);
