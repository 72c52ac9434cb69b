"""The JSON API under `/services/binder/api/v1/`, one handler a resource."""
