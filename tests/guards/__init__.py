"""Rules of the house that no general linter knows. Each is shown, beside the project, a sample that breaks it."""
