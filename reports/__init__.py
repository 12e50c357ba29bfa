"""What comes out: statistics, tables, figures, pages."""
