"""The Feast repository: settings in feature_store.yaml, definitions made from the schema."""
