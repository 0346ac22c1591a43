"""The village's production logic and the port it speaks through: no I/O, no clock, no entropy, no threads."""
