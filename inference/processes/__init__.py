"""Child processes: the worker that owns a device, and what parents and children of any kind need."""
