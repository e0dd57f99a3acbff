"""What can be said about a run: specs, schemas, skills, search spaces.  Never imports torch."""
