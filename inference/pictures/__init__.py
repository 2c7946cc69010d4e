"""Pictures on disk: PNG files with their recipe inside."""
