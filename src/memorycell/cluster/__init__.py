"""Jobs on a Ray cluster. Nothing else imports Ray."""
