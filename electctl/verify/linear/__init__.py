"""Is a history linearizable: operations in, a verdict out."""
