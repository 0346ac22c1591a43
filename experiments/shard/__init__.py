"""`twin shard`: every planner on the testbeds of published systems, one table."""
