"""What the report page says, and how it looks."""
