"""What is watched, and what it sets going."""
