"""A small world of children's stories whose text comes with its exact probability."""
