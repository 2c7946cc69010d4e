"""Few-step pictures from Latent Consistency Models: a library, a command line and the bot's drawing process."""
