"""What a release must be: checks that a machine makes before a version gets its tag."""
