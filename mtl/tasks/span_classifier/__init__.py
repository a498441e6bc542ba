"""Attributes of entities or other spans, such as negated, historical or severity."""
