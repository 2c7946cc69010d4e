-- What was drawn in the last hour is counted without looking at every picture ever drawn.
CREATE INDEX jobs_delivered_at ON jobs (delivered_at);
