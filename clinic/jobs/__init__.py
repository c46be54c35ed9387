"""Durable background jobs: ids and enum values only, never patient text."""
