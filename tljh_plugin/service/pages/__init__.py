"""The pages that people see, rendered on the server; they work without JavaScript where a form can."""
