-- How often an order was given to a worker: one that brings the whole bot down must not be drawn again at every start.

ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
