"""What only CPUs need: products by oneDNN, layers that keep less, int8 weights, memory that is kept."""
