"""What the commands do, one room each: they take their collaborators, and know nothing of how they are declared."""
