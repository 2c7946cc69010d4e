"""The queue and the tasks that drain it: orders in, batches to the workers, events and one outcome back per order."""
