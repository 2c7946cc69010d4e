-- An order may be a variation of its seed: mixed with a second seed, which counts on from picture to picture. NULL: it is none.

ALTER TABLE jobs ADD COLUMN variation_seed INTEGER;
ALTER TABLE jobs ADD COLUMN variation_strength REAL;   -- 0 to 1
ALTER TABLE pictures ADD COLUMN variation_seed INTEGER;
