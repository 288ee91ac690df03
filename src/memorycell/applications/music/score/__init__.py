"""Music as scores: voices of notes with lengths, in a metre and a key."""
