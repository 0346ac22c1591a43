"""Stores: a node's record log in one file, and blobs by their digest in a folder."""
