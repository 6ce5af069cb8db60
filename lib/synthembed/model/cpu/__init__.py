"""What only CPUs need: products by oneDNN, layers that keep less or pass over it less often, int8 weights, memory that is kept."""
