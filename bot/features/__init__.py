"""What the commands do, one module each: they are given their collaborators and do not know how they are declared."""
