"""Distillation: the answers of teachers, cached, and students made of a teacher's own layers."""
