"""The queue and what drains it: orders in, batches to the workers, news and one end back to each order."""
