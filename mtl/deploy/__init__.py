"""What is done with a trained pipeline: measure its speed, choose a precision, package it, verify the package."""
