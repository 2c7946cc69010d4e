"""The Discord side: commands, cards and buttons around the drawing side. Nothing here imports torch."""
