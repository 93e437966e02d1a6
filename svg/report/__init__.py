"""What people read of an evaluation: report.html, its tables and charts, and figures."""
