"""A GPU elsewhere, without a shared disk: prepared frames go to a worker over TLS, image embeddings come back."""
